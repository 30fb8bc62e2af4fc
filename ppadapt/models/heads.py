"""Classification heads: features [N, D] -> logits [N, class_num]."""
from __future__ import annotations

import paddle
from paddle import nn

from ..errors import UserError
from ..paddle_compat import truncated_normal
from .layers import ZEROS


class BatchNorm(nn.Layer):
    """BatchNorm over [N, D] without weight and bias, with PyTorch's arithmetic.

    The batch is normalised by its biased variance and the running variance takes the unbiased one
    (paddle.nn.BatchNorm1D takes the biased one), so that a head trained by the authors' code goes on
    with the same numbers. `momentum` is the weight of the new batch, as in PyTorch.

    Attributes:
        over_processes: where several processes share a batch, what sums a tensor over them, with its gradient; then
            mean and variance are those of the whole batch. None: of what is given here.

    Raises:
        ValueError: in training, for a batch of one image, whose variance is not defined.
    """

    def __init__(self, dim: int, epsilon: float = 1e-6, momentum: float = 0.1):
        super().__init__()
        self.epsilon, self.momentum, self.over_processes = epsilon, momentum, None
        self.register_buffer("running_mean", paddle.zeros([dim], dtype="float32"))
        self.register_buffer("running_var", paddle.ones([dim], dtype="float32"))

    def forward(self, x):
        with paddle.amp.auto_cast(enable=False):  # statistics of half-precision features lose too much
            x = x.astype("float32")
            if not self.training:
                return (x - self.running_mean) * paddle.rsqrt(self.running_var + self.epsilon)
            n, whole = x.shape[0], self.over_processes
            if n == 1 and whole is None:
                raise UserError("a training batch of one image has no variance for the head's BatchNorm: "
                                "use a batch_size of at least 2, or drop_last: True")
            if whole is None:
                mean = x.mean(axis=0)
                centred = x - mean
                var = (centred * centred).mean(axis=0)
            else:
                sums = whole(paddle.concat([x.sum(axis=0), paddle.full([1], float(n), "float32")]))
                n = sums[-1].detach()
                mean = sums[:-1] / n
                centred = x - mean
                var = whole((centred * centred).sum(axis=0)) / n
            with paddle.no_grad():
                m = self.momentum
                paddle.assign(self.running_mean * (1 - m) + mean * m, self.running_mean)
                paddle.assign(self.running_var * (1 - m) + var * (m * n / (n - 1)), self.running_var)
            return centred * paddle.rsqrt(var + self.epsilon)


def head_linear(dim: int, class_num: int) -> nn.Linear:
    """A Linear with the weight drawn from trunc_normal(0.01), as the authors start their heads."""
    return nn.Linear(dim, class_num, bias_attr=paddle.ParamAttr(initializer=ZEROS),
                     weight_attr=paddle.ParamAttr(initializer=truncated_normal(std=0.01)))


def batchnorm_linear(dim: int, class_num: int) -> nn.Sequential:
    """The paper's head: BatchNorm without affine (eps 1e-6), then Linear (section 4.1, after MAE)."""
    return nn.Sequential(BatchNorm(dim), head_linear(dim, class_num))


HEADS = {"BatchNormLinear": batchnorm_linear, "Linear": head_linear}
