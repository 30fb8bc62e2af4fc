"""Mixed precision for training with a frozen network."""
from __future__ import annotations

import contextlib
from typing import Callable

import paddle

from .. import half, paddle_compat
from ..errors import ConfigError, choose
from ..log import LOGGER

LEVELS, DTYPES = ("O0", "O1", "O2"), ("float16", "bfloat16")
# Steps left out in a row after which that is no search for a scale any more: from 65536 it is down to 2**-4 by then.
MANY = 20
_REMEDY = ("Use AMP.dtype=bfloat16 or AMP.level=O0, or lower AMP.scale_loss; where float32 diverges too, "
           "lower Optimizer.lr.learning_rate")


class Precision:
    """O0: float32. O1: each operation chooses. O2: frozen layers are stored in `dtype` as well.

    At both levels frozen matrices are cast to `dtype` once, not in every step: the numbers are the same.

    What trains is float32 at every level: the tuned state loses nothing and needs no master copy. (Under
    full fine-tuning nothing is frozen, and O2 stores no more in half precision than O1.) float16 scales the
    loss; bfloat16 has float32's range and needs none.

    On a CPU Paddle has no mixed precision. There bfloat16 is computed by `tuning.frozen` (products of what is frozen,
    accumulated in float32; norms, softmax and what trains in float32; O2 is as O1). Where that cannot be, and for
    float16: a warning, O0.

    Args:
        cpu_obstacle: asked on a CPU for the reason why bfloat16 cannot be computed there; empty where it can.

    Raises:
        ConfigError: for an unknown level or dtype.
    """

    def __init__(self, level: str = "O0", dtype: str = "float16", scale_loss: float = 65536.0,
                 use_dynamic_loss_scaling: bool = True,
                 cpu_obstacle: Callable[[], str] = lambda: "Paddle has no mixed precision on a CPU"):
        for key, value, allowed in (("level", level, LEVELS), ("dtype", dtype, DTYPES)):
            if value not in allowed:
                raise ConfigError(choose(f"AMP.{key}", value, allowed))
        self.level, self.dtype, self.on_cpu, self.obstacle = level, dtype, paddle.get_device() == "cpu", ""
        if self.on_cpu and level != "O0":
            self.obstacle = cpu_obstacle() if dtype == "bfloat16" else "a CPU computes in bfloat16 or float32"
            self.level = "O0" if self.obstacle else "O1"
        self.scaler = None
        self.steps = self.left_out = 0  # of this epoch
        self.left_out_in_a_row = 0
        if self.level != "O0" and dtype == "float16":
            self.scaler = paddle.amp.GradScaler(init_loss_scaling=scale_loss,
                                                use_dynamic_loss_scaling=use_dynamic_loss_scaling)

    def prepare(self, adaptation) -> None:
        """Store what is frozen in half precision, in place: its matrices under O1, its layers under O2."""
        if self.obstacle:
            LOGGER.warning("AMP has no effect, everything is computed in float32: %s", self.obstacle)
        if self.level == "O1":
            adaptation.store_frozen(self.dtype)
        if self.level == "O2":
            training = [layer for layer in adaptation.network.sublayers(include_self=True)
                        if any(not p.stop_gradient for p in layer.parameters(include_sublayers=False))]
            paddle.amp.decorate(adaptation.network, level="O2", dtype=self.dtype, excluded_layers=training or None)

    def context(self):
        """The context of a forward pass."""
        if self.level == "O0":
            return contextlib.nullcontext()
        if self.on_cpu:
            return half.bfloat16_on_cpu()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype)

    def backward(self, loss: paddle.Tensor) -> None:
        """Gradients of a scalar loss, added to those there are."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def begin_epoch(self) -> None:
        """What is counted of an epoch begins."""
        self.steps = self.left_out = 0

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """One optimizer step; gradients are cleared. float16 leaves out a step whose gradients overflowed."""
        if self.scaler:
            self.scaler.step(optimizer)
            self._count(paddle_compat.overflowed(self.scaler))
            self.scaler.update()
        else:
            optimizer.step()
        optimizer.clear_grad()

    def _count(self, overflowed: bool) -> None:
        self.steps += 1
        self.left_out += overflowed
        self.left_out_in_a_row = self.left_out_in_a_row + 1 if overflowed else 0
        if self.left_out_in_a_row == MANY:
            LOGGER.warning("the last %d steps were left out, for their gradients overflowed float16: nothing is "
                           "learnt. %s", MANY, _REMEDY)

    def hopeless(self) -> str:
        """In words, where an epoch has taught nothing and the next would not either; "" otherwise.

        A few short epochs may pass until a scale is found that fits.
        """
        if not self.steps or self.left_out < self.steps or (
                self.left_out_in_a_row < MANY and self.scaler.is_use_dynamic_loss_scaling()):
            return ""
        return (f"none of its {self.steps} steps was taken, for the gradients of each overflowed float16: nothing was "
                f"learnt. {_REMEDY}")

    def state_dict(self) -> dict:
        return self.scaler.state_dict() if self.scaler else {}

    def set_state_dict(self, state: dict) -> None:
        if self.scaler and state:
            self.scaler.load_state_dict(state)
