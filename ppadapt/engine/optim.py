"""Optimizers of `paddle.optimizer` by name, and the moving average of what they train."""
from __future__ import annotations

import fnmatch
import inspect
from typing import Annotated, Any, Mapping, Optional, Union

import paddle

from .. import paddle_compat
from ..errors import ConfigError, choose
from ..log import LOGGER
from ..options import check_against, hints_of, options_of, typed
from ..ranges import Amount, Below1, Count, Positive, Range, Share
from .schedules import Schedule

_UNFIT = ("Optimizer", "LBFGS", "Rprop")  # no optimizer, one that takes a function, one that takes no schedule
OPTIMIZERS = [n for n in dir(paddle.optimizer)
              if inspect.isclass(getattr(paddle.optimizer, n)) and n not in _UNFIT]
# Of the numbers among the options of Paddle's classes, which have no hints. The others are True or False.
_HINTS = {**dict.fromkeys(("momentum", "beta1", "beta2", "rho"), Below1),
          "weight_decay": Optional[Amount], "lamb_weight_decay": Amount, "momentum_decay": Share,
          "epsilon": Annotated[float, Range(0, 1, above=True)], "initial_accumulator_value": Amount,
          "rescale_grad": Positive, "batch_num": Count}
# Given by us, or functions, which a YAML file cannot say.
_OURS = ("self", "parameters", "name", "learning_rate", "grad_clip", "apply_decay_param_fun", "lr_ratio",
         "exclude_from_weight_decay_fn")
# These leave parameters out of the decay by name, which not every class can.
_BY_NAME = ("no_weight_decay_name", "one_dim_param_no_weight_decay")


def build_optimizer(parameters: Mapping[str, paddle.Tensor], schedule: Schedule, name: str,
                    clip_norm: Optional[Positive] = None, clip_value: Optional[Positive] = None,
                    regularizer: Optional[dict] = None, no_weight_decay_name: Union[str, list, None] = None,
                    one_dim_param_no_weight_decay: bool = False, **options: Any) -> paddle.optimizer.Optimizer:
    """An optimizer over named parameters; `options` are those of its class in `paddle.optimizer`.

    Args:
        clip_norm, clip_value: clip gradients by the norm of all of them together (PaddleClas: of each tensor), or each
            value.
        regularizer: PaddleClas's form of weight decay, {"name": "L2", "coeff": 1e-4}.
        no_weight_decay_name: parts of names ("bias norm" or a list) that AdamW does not decay.
        one_dim_param_no_weight_decay: AdamW does not decay vectors.

    Raises:
        ConfigError: for an unknown name or option, or one that the optimizer does not have.
    """
    checked = {**options, "clip_norm": clip_norm, "clip_value": clip_value, "regularizer": regularizer}
    check_optimizer(name, checked)
    options = {key: checked[key] for key in options}
    make = getattr(paddle.optimizer, name)
    if regularizer is not None:
        if options.get("weight_decay"):
            raise ConfigError("Optimizer has both weight_decay and regularizer: keep one")
        options["weight_decay"] = _regularizer(regularizer)
    if clip_norm is not None and clip_value is not None:
        raise ConfigError("Optimizer has both clip_norm and clip_value: keep one")
    if clip_norm is not None:
        LOGGER.info("Optimizer.clip_norm: %g for all gradients together (PaddleClas: for each tensor)", clip_norm)
        options["grad_clip"] = paddle.nn.ClipGradByGlobalNorm(float(clip_norm))
    elif clip_value is not None:
        options["grad_clip"] = paddle.nn.ClipGradByValue(float(clip_value))
    patterns = no_weight_decay_name or []
    patterns = patterns.split() if isinstance(patterns, str) else patterns
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(f"Optimizer.no_weight_decay_name is {patterns}: give parts of names, 'bias norm'")
    if patterns or one_dim_param_no_weight_decay:
        if not _can_leave_out(name):
            raise ConfigError(f"Optimizer ({name}) decays every parameter alike: no_weight_decay_name and "
                              "one_dim_param_no_weight_decay are for AdamW")
        decayed = {p.name for n, p in parameters.items()
                   if not any(fnmatch.fnmatchcase(n, f"*{pattern}*") for pattern in patterns)
                   and not (one_dim_param_no_weight_decay and p.ndim <= 1)}
        options["apply_decay_param_fun"] = decayed.__contains__
    try:
        return make(learning_rate=schedule, parameters=list(parameters.values()), **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"Optimizer ({name}): {' '.join(str(error).split())}") from error


def check_optimizer(name: Any, options: dict) -> None:
    """Compare a name and its options, those of `build_optimizer` among them, with what there is; in place as
    `options.check_options`. Raises ConfigError, naming all that is wrong."""
    if name not in OPTIMIZERS and isinstance(name, str) and name in paddle_compat.FEATURES:
        raise ConfigError(f"Optimizer.name: {paddle_compat.missing(name)}")
    if name not in OPTIMIZERS:
        raise ConfigError(choose("Optimizer.name", name, OPTIMIZERS))
    hints = {**dict.fromkeys(_parameters(name), bool), **_HINTS, **hints_of(build_optimizer)}
    check_against(hints, optimizer_options(name), options, f"Optimizer ({name})")


def _parameters(name: str) -> list[str]:
    return [k for k in inspect.signature(getattr(paddle.optimizer, name)).parameters if k not in _OURS]


def _regularizer(given: dict) -> Any:
    kinds = {"L1": paddle.regularizer.L1Decay, "L2": paddle.regularizer.L2Decay}
    if given.get("name") not in kinds:
        raise ConfigError(choose("Optimizer.regularizer.name", given.get("name"), kinds))
    for option in given:
        if option not in ("name", "coeff"):
            raise ConfigError(choose("option of Optimizer.regularizer:", option, ("coeff",)))
    return kinds[given["name"]](typed(given.get("coeff", 0.0), Amount, "Optimizer.regularizer, coeff"))


def optimizer_options(name: Any) -> Optional[list[str]]:
    """The options that an optimizer takes beside its name; None for an unknown one."""
    if name not in OPTIMIZERS:
        return None
    all_take = [k for k in options_of(build_optimizer, ("parameters", "schedule", "name"))
                if k not in _BY_NAME or _can_leave_out(name)]
    return ["lr", *all_take, *_parameters(name)]


def _can_leave_out(name: str) -> bool:
    return "apply_decay_param_fun" in inspect.signature(getattr(paddle.optimizer, name)).parameters


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
