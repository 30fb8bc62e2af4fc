"""Learning-rate schedules: PaddleClas's under its names and in its units, and those of `paddle.optimizer.lr`.

PaddleClas counts epochs: `step_size`, `milestones` and `decay_epochs` are in epochs after the warm-up, whether the
rate changes with every step or (`by_epoch`) once an epoch. A class of Paddle under its own name (`StepDecay`) counts
steps, or epochs with `by_epoch`.

Where PaddleClas 2.6 contradicts itself, what its options say counts here: the warm-up of `Constant`, which it drops;
with `by_epoch` the warm-up of `Linear` and the length of `OneCycleLR` and `CosineFixmatch`, which it counts in steps
although it takes one step an epoch. The log says so.
"""
from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Annotated, Any, Callable, Mapping, Optional, Union

from paddle.optimizer import lr as paddle_lr

from ..errors import ConfigError, brief, choose
from ..log import LOGGER
from ..options import check_against, hints_of, options_of
from ..ranges import Amount, Count, Positive, Range, Rate, Share, Whole

Fraction = Annotated[float, Range(0, 1, below=True)]
Divisor = Annotated[float, Range(1, 1e6)]


@dataclass
class Span:
    """What follows the warm-up, in what the schedule counts: steps, or epochs with `by_epoch`.

    rate: where it begins. scale: of the batch, for rates that options give. epoch: counts of an epoch. left, whole:
    counts after the warm-up, and of all. epochs: of all.
    """

    rate: float
    scale: float
    epoch: int
    left: int
    whole: int
    epochs: int


def constant(span: Span) -> None:
    """The rate stays."""


def cosine(span: Span, eta_min: Rate = 0.0) -> paddle_lr.LRScheduler:
    """Half a cosine, from the rate to `eta_min`."""
    _not_above(span, eta_min=eta_min)
    return paddle_lr.CosineAnnealingDecay(span.rate, T_max=span.left, eta_min=eta_min)


def linear(span: Span, end_lr: Rate = 0.0, power: Positive = 1.0, cycle: bool = False) -> paddle_lr.LRScheduler:
    """A line (or a power of it) from the rate to `end_lr`."""
    _not_above(span, end_lr=end_lr)
    return paddle_lr.PolynomialDecay(span.rate, decay_steps=span.left, end_lr=end_lr, power=power, cycle=cycle)


def step(span: Span, step_size: Positive, gamma: Fraction = 0.1) -> paddle_lr.LRScheduler:
    """Times `gamma` every `step_size` epochs, of a part of one whole steps are taken."""
    size = int(step_size * span.epoch)
    if not size:
        raise ConfigError(f"Optimizer.lr (Step), step_size is {step_size:g} epochs, less than one step of training")
    return paddle_lr.StepDecay(span.rate, step_size=size, gamma=gamma)


def multi_step(span: Span, milestones: list, gamma: Fraction = 0.1) -> paddle_lr.LRScheduler:
    """Times `gamma` at each of `milestones`, in epochs."""
    return paddle_lr.MultiStepDecay(span.rate, milestones=[e * span.epoch for e in _rising("milestones", milestones)],
                                    gamma=gamma)


def piecewise(span: Span, values: Optional[list] = None, decay_epochs: Optional[list] = None,
              boundaries: Optional[list] = None) -> paddle_lr.LRScheduler:
    """One rate of `values` after another, at `decay_epochs` (or at the steps of Paddle's `boundaries`).

    Without `values`, PaddleClas's rule: a tenth of the learning rate every 30 epochs.
    """
    if values is None:
        if decay_epochs or boundaries:
            raise ConfigError("Optimizer.lr (Piecewise) has times and no values: give one rate more than times")
        decay_epochs = list(range(30, span.epochs, 30))
        values = [span.rate / span.scale * 0.1 ** i for i in range(len(decay_epochs) + 1)]
    if decay_epochs is not None and boundaries is not None:
        raise ConfigError("Optimizer.lr (Piecewise) has decay_epochs and boundaries: keep one")
    steps = (_rising("boundaries", boundaries) if boundaries is not None
             else [e * span.epoch for e in _rising("decay_epochs", decay_epochs or [])])
    if len(values) != len(steps) + 1:
        raise ConfigError(f"Optimizer.lr (Piecewise) has {len(values)} values for {len(steps)} times: give one rate "
                          "more than times")
    # Paddle wants a time even where the rate never changes.
    return paddle_lr.PiecewiseDecay(boundaries=steps or [span.whole], values=[v * span.scale for v in values] * (
        1 if steps else 2))


def cyclic(span: Span, max_learning_rate: Rate, step_size_up: Count, step_size_down: Optional[Count] = None,
           mode: str = "triangular", exp_gamma: Positive = 1.0, scale_mode: str = "cycle",
           base_learning_rate: Optional[Rate] = None) -> paddle_lr.LRScheduler:
    """Up to `max_learning_rate` and down again, in steps."""
    return paddle_lr.CyclicLR(span.rate, max_learning_rate * span.scale, step_size_up, step_size_down, mode,
                              exp_gamma, None, scale_mode)


def one_cycle(span: Span, divide_factor: Divisor = 25.0, end_learning_rate: Rate = 1e-10, phase_pct: Fraction = 0.3,
              anneal_strategy: str = "cos", three_phase: bool = False,
              max_learning_rate: Optional[Rate] = None) -> paddle_lr.LRScheduler:
    """From a part of the rate up to it, then down to nearly nothing, over all of training."""
    return paddle_lr.OneCycleLR(span.rate, span.whole, divide_factor, end_learning_rate, phase_pct, anneal_strategy,
                                three_phase)


def fixmatch(span: Span, num_warmup_steps: Whole, num_cycles: Positive = 7 / 16) -> paddle_lr.LRScheduler:
    """FixMatch's (Sohn et al., arXiv 2001.07685): a warm-up of its own in steps, then a part of a cosine."""
    if span.left < span.whole:
        raise ConfigError("Optimizer.lr (CosineFixmatch) warms up by num_warmup_steps: remove warmup_epoch")

    def share(count: int) -> float:
        if count < num_warmup_steps:
            return count / max(1, num_warmup_steps)
        done = (count - num_warmup_steps) / max(1, span.whole - num_warmup_steps)
        return max(0.0, math.cos(math.pi * num_cycles * done))

    return paddle_lr.LambdaDecay(span.rate, lr_lambda=share)


PADDLECLAS: dict[str, Callable] = {
    "Constant": constant, "ConstLR": constant, "Cosine": cosine, "CosineWarmup": cosine, "Linear": linear,
    "Step": step, "MultiStepDecay": multi_step, "Piecewise": piecewise, "Cyclic": cyclic, "OneCycleLR": one_cycle,
    "CosineFixmatch": fixmatch}
# These take functions or a metric, which a YAML file cannot say, or are wrapped here.
_NOT_BY_NAME = {"LRScheduler", "LambdaDecay", "MultiplicativeDecay", "ReduceOnPlateau", "LinearWarmup"}
_PADDLES = [name for name in paddle_lr.__all__ if name not in _NOT_BY_NAME and name not in PADDLECLAS]
SCHEDULES = [*PADDLECLAS, *_PADDLES]
# These take whole steps of a warm-up that is a part of an epoch, as all results here were trained with. In PaddleClas
# they take whole epochs only, and the others round.
_WHOLE_STEPS = ("Cosine", "CosineWarmup", "Linear")
_GIVEN = ("steps_per_epoch", "epochs", "batch_size")  # to Schedule, by us
# Where the rate after the warm-up is an option of the schedule's own.
_OWN_RATE = {"Piecewise": "values", "Cyclic": "base_learning_rate", "CyclicLR": "base_learning_rate",
             "OneCycleLR": "max_learning_rate"}
# What Paddle's classes get from us where the options do not say it.
_AUTOMATIC = ("learning_rate", "max_learning_rate", "base_learning_rate", "T_max", "decay_steps", "total_steps",
              "end_lr")
# Of the options of Paddle's classes, which have no hints of their own that say how far.
_HINTS = {
    **dict.fromkeys(("T_max", "T_0", "T_mult", "decay_steps", "step_size", "step_size_up", "total_steps",
                     "d_model"), Count),
    **dict.fromkeys(("eta_min", "end_lr", "end_learning_rate", "max_learning_rate", "base_learning_rate"), Rate),
    **dict.fromkeys(("end_factor", "phase_pct"), Share), **dict.fromkeys(("cycle", "three_phase"), bool),
    **dict.fromkeys(("power", "exp_gamma"), Positive), "step_size_down": Optional[Count],
    **dict.fromkeys(("mode", "scale_mode", "anneal_strategy"), str), "warmup_steps": Count,
    "divide_factor": Divisor,
    **dict.fromkeys(("milestones", "boundaries", "values"), list),
    **dict.fromkeys(("gamma", "start_factor"), Annotated[float, Range(0, 1, above=True)])}


class Schedule(paddle_lr.LRScheduler):
    """Linear warm-up, then one of `SCHEDULES`. One `step()` per iteration.

    The paper's schedule (and MAE's `lr_sched.adjust_learning_rate`) is Cosine: from 0 to `learning_rate`
    over the warm-up, then half a cosine to `eta_min` over the rest.

    Args:
        steps_per_epoch, epochs: length of training in optimizer steps and epochs.
        batch_size: images per optimizer step over all devices.
        name: of the schedule; `options` are its own.
        learning_rate: after the warm-up (0.001 where the schedule's options do not say it).
        base_batch_size: scale rates by batch_size / base_batch_size, as the paper does with 256.
        warmup_epoch: may be a fraction; none where nothing is said (CosineWarmup: 5).
        warmup_start_lr: where the warm-up starts.
        by_epoch: the rate changes once an epoch, in the warm-up as well, in the place of every step.

    Raises:
        ConfigError: for an unknown name or option, a value out of its range, and rates that do not fit together.
    """

    def __init__(self, steps_per_epoch: int, epochs: int, batch_size: int = 1, name: str = "Constant",
                 learning_rate: Optional[Rate] = None, base_batch_size: Optional[Count] = None,
                 warmup_epoch: Union[Whole, Amount, None] = None, warmup_start_lr: Rate = 0.0,
                 by_epoch: bool = False, **options: Any):
        given = {"name": name, **options}
        check_schedule(given)
        options = {key: value for key, value in given.items() if key != "name"}
        scale = batch_size / base_batch_size if base_batch_size else 1.0
        rate = _rate(name, learning_rate, options) * scale
        if warmup_epoch is None:
            warmup_epoch = 5 if name == "CosineWarmup" else 0  # as PaddleClas 2.0 has it
        if rate < 0 or warmup_epoch < 0 or (warmup_epoch and warmup_epoch >= epochs):
            raise ConfigError(f"Optimizer.lr: learning_rate {rate} with warmup_epoch {warmup_epoch} of "
                              f"{epochs} epochs is not allowed: neither may be negative and the warm-up must "
                              "end before training does (for a short run: -o Optimizer.lr.warmup_epoch=1)")
        if warmup_epoch and warmup_start_lr > rate:
            raise ConfigError(f"Optimizer.lr: warmup_start_lr {warmup_start_lr} is above the learning rate {rate:g}: "
                              "a warm-up rises")
        for key, value in (("warmup_epoch", warmup_epoch), ("step_size", options.get("step_size"))):
            if by_epoch and isinstance(value, float) and not value.is_integer():
                raise ConfigError(f"Optimizer.lr: with by_epoch {key} is in whole epochs, not {value}")
        self.name, self.period = name, steps_per_epoch if by_epoch else 1
        epoch = 1 if by_epoch else steps_per_epoch
        self.warmup = (int if name in _WHOLE_STEPS else round)(warmup_epoch * epoch)
        self.warmup_start_lr, self.peak = warmup_start_lr, rate
        span = Span(rate, scale, epoch, max(1, epochs * epoch - self.warmup), epochs * epoch, epochs)
        self.after = _build(name, span, options)
        if name == "Piecewise" and learning_rate is not None:
            _say_which_counts(span, options)
        if by_epoch and (name in ("OneCycleLR", "CosineFixmatch") or name == "Linear" and self.warmup):
            LOGGER.warning("Optimizer.lr (%s) with by_epoch is counted in epochs throughout; PaddleClas 2.6 counts %s "
                           "in steps, and would not come to its end", name,
                           "its warm-up" if name == "Linear" else "its length")
        super().__init__(rate)

    def get_lr(self) -> float:
        count = self.last_epoch // self.period
        if count < self.warmup:
            return self.warmup_start_lr + (self.peak - self.warmup_start_lr) * count / self.warmup
        if self.after is None:
            return self.peak
        # Counted up rather than jumped to: not every schedule has a closed form.
        while self.after.last_epoch < count - self.warmup:
            self.after.step()
        return self.after()

    def state_dict(self) -> dict:
        return {"last_epoch": self.last_epoch, "last_lr": self.last_lr}

    def set_state_dict(self, state_dict: Mapping) -> None:
        self.step(epoch=state_dict["last_epoch"])


def check_schedule(options: dict) -> None:
    """Compare the options of `Schedule`, its `name` among them, with what there is; in place as `check_options`.

    Raises:
        ConfigError: naming all that is wrong.
    """
    name = options.get("name", "Constant")
    if name == "ReduceOnPlateau":
        raise ConfigError("Optimizer.lr.name ReduceOnPlateau follows a metric, and a run is what its config says from "
                          "its first step on: take Cosine, Step or MultiStepDecay")
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ConfigError(choose("Optimizer.lr.name", name, SCHEDULES))
    make = PADDLECLAS.get(name) or getattr(paddle_lr, name)
    hints = {**(hints_of(make) if name in PADDLECLAS else _HINTS), **hints_of(Schedule)}
    required = [key for key, parameter in inspect.signature(make).parameters.items()
                if parameter.default is parameter.empty and key not in ("span", *_AUTOMATIC)]
    check_against(hints, schedule_options(name, {}), options, f"Optimizer.lr ({name})", required)
    for option in ("milestones", "decay_epochs", "boundaries"):
        _rising(option, options.get(option) or [])
    for rate in options.get("values") or []:
        _number(f"Optimizer.lr ({name}), values", rate, 1000)


def schedule_options(name: Any, given: Mapping[str, Any]) -> Optional[list[str]]:
    """The options that a schedule takes beside its name and those given; None for an unknown one."""
    if name not in SCHEDULES:
        return None
    hidden = ("learning_rate",) if _OWN_RATE.get(name) in given else ()
    own = options_of(Schedule, (*_GIVEN, *hidden))
    return [*own, *(options_of(PADDLECLAS[name], ("span",)) if name in PADDLECLAS else _parameters(name))]


def _rate(name: str, learning_rate: Optional[float], options: dict) -> float:
    """The rate after the warm-up: `learning_rate`, or what the schedule's own options say."""
    key = _OWN_RATE.get(name)
    said = options.get(key) if key else None
    if isinstance(said, list):  # of Piecewise
        said = said[0] if said else None
    if said is None:
        return 0.001 if learning_rate is None else learning_rate
    if learning_rate not in (None, said):
        raise ConfigError(f"Optimizer.lr ({name}) begins with {said} by its {key} and learning_rate is "
                          f"{learning_rate}: keep one of them")
    return said


def _say_which_counts(span: Span, options: Mapping[str, Any]) -> None:
    """PaddleClas 2.6 puts its rule in the place of `values` where there is a learning rate as well."""
    values, times = options.get("values"), options.get("decay_epochs") or []
    if values and options.get("boundaries") is None:
        rule = [values[0] * 0.1 ** (epoch // 30) for epoch in range(span.epochs)]
        ours = [values[sum(epoch >= time for time in times)] for epoch in range(span.epochs)]
        if not all(math.isclose(a, b) for a, b in zip(ours, rule)):
            LOGGER.warning("Optimizer.lr (Piecewise): values and decay_epochs count. PaddleClas 2.6, given a "
                           "learning_rate as well, would take a tenth of it every 30 epochs")


def _build(name: str, span: Span, options: dict) -> Optional[paddle_lr.LRScheduler]:
    where = f"Optimizer.lr ({name})"
    if name in PADDLECLAS:
        return _made(where, PADDLECLAS[name], span, **options)
    known = _parameters(name)
    automatic = (span.rate, span.rate, span.rate, span.left, span.left, span.left, 0.0)
    options = {**{key: value for key, value in zip(_AUTOMATIC, automatic) if key in known}, **options}
    if "learning_rate" in known:
        _not_above(span, **{key: options[key] for key in ("end_lr", "eta_min") if key in options})
    return _made(where, getattr(paddle_lr, name), **options)


def _parameters(name: str) -> list[str]:
    return [key for key in inspect.signature(getattr(paddle_lr, name)).parameters
            if key not in ("self", "verbose", "last_epoch", "scale_fn")]


def _made(where: str, make: Callable, *arguments: Any, **options: Any) -> Optional[paddle_lr.LRScheduler]:
    try:
        return make(*arguments, **options)
    except ConfigError:
        raise
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error


def _not_above(span: Span, **ends: float) -> None:
    for key, value in ends.items():
        if value > span.rate:
            raise ConfigError(f"Optimizer.lr: {key} {value:g} is above the learning rate {span.rate:g}: the rate would "
                              "rise to it")


def _rising(what: str, times: list) -> list:
    for time in times:
        _number(f"Optimizer.lr, {what}", time)
    if list(times) != sorted(set(times)):
        raise ConfigError(f"Optimizer.lr, {what} is {brief(times)}: give times in rising order, each once")
    return times


def _number(where: str, value: Any, most: float = 1e9) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ConfigError(f"{where} holds {brief(value)}: each must be a number of at least 0 and at most {most:,.0f}")
    return value
