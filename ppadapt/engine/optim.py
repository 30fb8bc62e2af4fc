"""Optimizers and learning-rate schedules of `paddle.optimizer`, by name, with a warm-up per iteration."""
from __future__ import annotations

import fnmatch
import inspect
from typing import Any, Mapping, Optional, Union

import paddle
from paddle.optimizer import lr as paddle_lr

from .. import paddle_compat
from ..errors import ConfigError, choose

# These take functions or a metric, which a YAML file cannot say, or are wrapped here.
_NOT_BY_NAME = {"LRScheduler", "LambdaDecay", "MultiplicativeDecay", "ReduceOnPlateau", "LinearWarmup"}
SCHEDULES = ["Constant", "Cosine", *(n for n in paddle_lr.__all__ if n not in _NOT_BY_NAME)]
OPTIMIZERS = [n for n in dir(paddle.optimizer)
              if inspect.isclass(getattr(paddle.optimizer, n)) and n not in ("Optimizer", "LBFGS")]
_PADDLE_SHORT = {"Step": "StepDecay", "Piecewise": "PiecewiseDecay", "Linear": "PolynomialDecay"}


class Schedule(paddle_lr.LRScheduler):
    """Linear warm-up per iteration, then a schedule of `paddle.optimizer.lr`. One `step()` per iteration.

    The paper's schedule (and MAE's `lr_sched.adjust_learning_rate`) is Cosine: from 0 to `learning_rate`
    over the warm-up, then half a cosine to `eta_min` over the rest.

    Args:
        steps_per_epoch, epochs: length of training in optimizer steps and epochs.
        name: "Cosine", "Constant", or a class of `paddle.optimizer.lr` (PaddleClas's Step, Piecewise and
            Linear are known too); `options` are those of its constructor, counted in epochs where
            `by_epoch` is set, else in steps.
        learning_rate: after the warm-up.
        base_batch_size: scale `learning_rate` by global batch / base_batch_size, as the paper does with 256.
        batch_size: images per optimizer step over all devices.
        warmup_epoch: may be a fraction. warmup_start_lr: where the warm-up starts.
    """

    def __init__(self, steps_per_epoch: int, epochs: int, batch_size: int = 1, name: str = "Constant",
                 learning_rate: float = 0.001, base_batch_size: Optional[int] = None,
                 warmup_epoch: Union[int, float] = 0, warmup_start_lr: float = 0.0, by_epoch: bool = False,
                 eta_min: float = 0.0, **options: Any):
        if base_batch_size:
            learning_rate *= batch_size / base_batch_size
        if learning_rate < 0 or warmup_epoch < 0 or (warmup_epoch and warmup_epoch >= epochs):
            raise ConfigError(f"Optimizer.lr: learning_rate {learning_rate} with warmup_epoch {warmup_epoch} of "
                              f"{epochs} epochs is not allowed: neither may be negative and the warm-up must "
                              "end before training does (for a short run: -o Optimizer.lr.warmup_epoch=1)")
        self.name = name
        self.warmup_steps = int(warmup_epoch * steps_per_epoch)
        self.warmup_start_lr, self.peak, self.period = warmup_start_lr, learning_rate, 1
        if by_epoch:
            self.period = steps_per_epoch
        after = max(1, epochs * steps_per_epoch - self.warmup_steps)
        self.after = _schedule(name, learning_rate, -(-after // self.period), eta_min, options)
        super().__init__(learning_rate)

    def get_lr(self) -> float:
        step = self.last_epoch
        if step < self.warmup_steps:
            return self.warmup_start_lr + (self.peak - self.warmup_start_lr) * step / self.warmup_steps
        if self.after is None:
            return self.peak
        # Counted up rather than jumped to: not every schedule has a closed form.
        while self.after.last_epoch < (step - self.warmup_steps) // self.period:
            self.after.step()
        return self.after()

    def state_dict(self) -> dict:
        return {"last_epoch": self.last_epoch, "last_lr": self.last_lr}

    def set_state_dict(self, state_dict: Mapping) -> None:
        self.step(epoch=state_dict["last_epoch"])


def _schedule(name: str, learning_rate: float, length: int, eta_min: float, options: dict):
    if name == "Constant":
        if options:
            raise ConfigError(choose("option of Optimizer.lr (Constant):", next(iter(options)), []))
        return None
    if name == "Cosine":
        return paddle_lr.CosineAnnealingDecay(learning_rate, T_max=length, eta_min=eta_min, **options)
    name = _PADDLE_SHORT.get(name, name)
    if name not in SCHEDULES:
        raise ConfigError(choose("Optimizer.lr.name", name, SCHEDULES))
    make = getattr(paddle_lr, name)
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise ConfigError(choose(f"option of Optimizer.lr ({name}):", option,
                                     [k for k in known if k not in ("self", "verbose", "last_epoch")]))
    automatic = {"learning_rate": learning_rate, "max_learning_rate": learning_rate, "T_max": length,
                 "decay_steps": length, "total_steps": length, "eta_min": eta_min}
    options = {**{k: v for k, v in automatic.items() if k in known}, **options}
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Optimizer.lr ({name}): {error}") from error


def build_optimizer(parameters: Mapping[str, paddle.Tensor], schedule: Schedule, name: str,
                    clip_norm: Optional[float] = None, clip_value: Optional[float] = None,
                    regularizer: Optional[dict] = None, no_weight_decay_name: Union[str, list, None] = None,
                    one_dim_param_no_weight_decay: bool = False, **options: Any) -> paddle.optimizer.Optimizer:
    """An optimizer over named parameters; `options` are those of its class in `paddle.optimizer`.

    Args:
        clip_norm, clip_value: clip gradients by their global norm, or each value.
        regularizer: PaddleClas's form of weight decay, {"name": "L2", "coeff": 1e-4}.
        no_weight_decay_name: parts of names ("bias norm" or a list) that AdamW does not decay.
        one_dim_param_no_weight_decay: AdamW does not decay vectors.

    Raises:
        ConfigError: for an unknown name or option, or one that the optimizer does not have.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(choose("Optimizer.name", name, OPTIMIZERS))
    make = getattr(paddle.optimizer, name)
    known = [k for k in inspect.signature(make).parameters if k not in ("self", "parameters", "name")]
    for option in options:
        if option not in known:
            raise ConfigError(choose(f"option of Optimizer ({name}):", option, known))
    if regularizer:
        kinds = {"L1": paddle.regularizer.L1Decay, "L2": paddle.regularizer.L2Decay}
        if regularizer.get("name") not in kinds:
            raise ConfigError(choose("Optimizer.regularizer.name", regularizer.get("name"), kinds))
        options["weight_decay"] = kinds[regularizer["name"]](float(regularizer.get("coeff", 0.0)))
    if clip_norm is not None and clip_value is not None:
        raise ConfigError("Optimizer has both clip_norm and clip_value: keep one")
    if clip_norm is not None:
        options["grad_clip"] = paddle.nn.ClipGradByGlobalNorm(float(clip_norm))
    elif clip_value is not None:
        options["grad_clip"] = paddle.nn.ClipGradByValue(float(clip_value))
    patterns = no_weight_decay_name or []
    patterns = patterns.split() if isinstance(patterns, str) else patterns
    if patterns or one_dim_param_no_weight_decay:
        if "apply_decay_param_fun" not in known:
            raise ConfigError(f"Optimizer ({name}) decays every parameter alike: no_weight_decay_name and "
                              "one_dim_param_no_weight_decay are for AdamW")
        decayed = {p.name for n, p in parameters.items()
                   if not any(fnmatch.fnmatchcase(n, f"*{pattern}*") for pattern in patterns)
                   and not (one_dim_param_no_weight_decay and p.ndim <= 1)}
        options["apply_decay_param_fun"] = decayed.__contains__
    try:
        return make(learning_rate=schedule, parameters=list(parameters.values()), **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"Optimizer ({name}): {error}") from error


@paddle.no_grad()
def scale_gradients(optimizer: paddle.optimizer.Optimizer, factor: float) -> None:
    """Multiply the gradients that the next step will use, in place."""
    for parameter in paddle_compat.parameters_of(optimizer):
        if parameter.grad is not None:
            parameter.grad.scale_(factor)


class EMA:
    """Exponential moving average of what trains: e <- decay * e + (1 - decay) * p after each step.

    The first steps use min(decay, (1 + steps) / (10 + steps)), as TensorFlow's num_updates does, so that
    the average does not hang on to the initial weights.
    Use as a context manager to evaluate or save with the averages in the place of the parameters.
    """

    def __init__(self, parameters: Mapping[str, paddle.Tensor], decay: float):
        if not 0 < decay < 1:
            raise ConfigError(f"EMA.decay is {decay}: give a number between 0 and 1, such as 0.999, or null")
        self.parameters, self.decay, self.steps = dict(parameters), decay, 0
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}

    @paddle.no_grad()
    def update(self) -> None:
        """Call after each optimizer step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for n, p in self.parameters.items():
            self.average[n] = self.average[n] * decay + p.detach() * (1 - decay)

    def __enter__(self) -> None:
        self._kept = {n: p.detach().clone() for n, p in self.parameters.items()}
        for n, p in self.parameters.items():
            p.set_value(self.average[n])

    def __exit__(self, *exc) -> None:
        for n, p in self.parameters.items():
            p.set_value(self._kept.pop(n))

    def state_dict(self) -> dict:
        return {"steps": self.steps, "average": {n: a.numpy() for n, a in self.average.items()}}

    def set_state_dict(self, state: Mapping) -> None:
        self.steps = state["steps"]
        self.average = {n: paddle.to_tensor(a) for n, a in state["average"].items()}
