"""The parts of a transformer through oneDNN, with gradients: float32 in, float32 out, in bfloat16 in between if asked.

Kept for the backward is what it needs and nothing else: of a Linear its input only where the weight trains, of an MLP
what enters the GELU, of attention q, k, v and the softmax.
"""
from __future__ import annotations

from typing import Any, Optional, Sequence

import paddle
from paddle.autograd import PyLayer

from .... import half
from .operations import (
    View,
    cast,
    gelu,
    gelu_gradient,
    layer_norm,
    layer_norm_gradient,
    matmul,
    rows,
    softmax,
    softmax_gradient,
    whole,
)


def compute_type() -> Any:
    """What products are computed in."""
    return paddle.bfloat16 if half.enabled() else paddle.float32


def product(x: paddle.Tensor, weight: paddle.Tensor, bias: Optional[paddle.Tensor], dtype: Any, out: Any = None,
            transposed: bool = False, activate: bool = False, columns: Optional[range] = None) -> paddle.Tensor:
    """act(x W + b), or x W^T: [..., I] -> [..., O], computed in `dtype`, in `out` (float32 when absent).

    Of W and b only some neighbouring `columns` take part, if any are given.
    """
    left, right = rows(cast(x, dtype)), whole(cast(weight, dtype))
    if columns is not None:
        right = View(right.tensor, (right.shape[0], len(columns)), right.strides, columns.start)
        bias = None if bias is None else bias[columns.start:columns.stop]
    right = right.transposed() if transposed else right
    y = paddle.empty([*x.shape[:-1], right.shape[-1]], out or paddle.float32)
    matmul(left, right, rows(y), None if bias is None else cast(bias, paddle.float32), gelu=activate)
    return y


class Linear(PyLayer):
    """x W + b: [..., I] -> [..., O]."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.dtype = dtype = compute_type()
        if not weight.stop_gradient:
            ctx.save_for_backward(cast(x, dtype))
        ctx.weight, ctx.bias, ctx.wants_input = weight, bias, not x.stop_gradient
        return product(x, weight, bias, dtype)

    @staticmethod
    def backward(ctx, grad):
        weight, bias = ctx.weight, ctx.bias
        grad_x = grad_weight = grad_bias = None
        if ctx.wants_input:
            grad_x = product(grad, weight, None, ctx.dtype, transposed=True)
        if not weight.stop_gradient:
            x, = ctx.saved_tensor()
            grad_weight = paddle.empty(weight.shape)
            matmul(rows(x).transposed(), rows(cast(grad, ctx.dtype)), whole(grad_weight))
        if bias is None:
            return grad_x, grad_weight
        if not bias.stop_gradient:
            grad_bias = _sum_rows(grad)
        return grad_x, grad_weight, grad_bias


class LayerNorm(PyLayer):
    """n w + b, n = (x - mean) / std over the last axis: [..., D] -> [..., D], in float32."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        y, mean, variance = layer_norm(x, weight, bias, epsilon)
        ctx.save_for_backward(x, mean, variance)
        ctx.weight, ctx.bias, ctx.epsilon, ctx.wants_input = weight, bias, epsilon, not x.stop_gradient
        return y

    @staticmethod
    def backward(ctx, grad):
        x, mean, variance = ctx.saved_tensor()
        grads = layer_norm_gradient(x, grad, ctx.weight, ctx.bias, mean, variance, ctx.epsilon)
        wanted = ctx.wants_input, not ctx.weight.stop_gradient, not ctx.bias.stop_gradient
        return tuple(g if want else None for g, want in zip(grads, wanted))


class Gelu(PyLayer):
    """GELU in its erf form."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return gelu(x)

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensor()
        return gelu_gradient(x, grad.clone())


class Mlp(PyLayer):
    """`models.layers.Mlp` with both matrices frozen: [N, L, D] -> [N, L, D]."""

    @staticmethod
    def forward(ctx, x, mlp):
        ctx.dtype, ctx.mlp = compute_type(), mlp
        hidden = product(x, mlp.fc1.weight, mlp.fc1.bias, ctx.dtype, out=ctx.dtype)
        ctx.save_for_backward(hidden)
        return product(gelu(hidden), mlp.fc2.weight, mlp.fc2.bias, ctx.dtype)

    @staticmethod
    def backward(ctx, grad):
        hidden, = ctx.saved_tensor()
        grad = product(grad, ctx.mlp.fc2.weight, None, ctx.dtype, out=ctx.dtype, transposed=True)
        return product(gelu_gradient(hidden, grad), ctx.mlp.fc1.weight, None, ctx.dtype, transposed=True)


def mlp_forward(x: paddle.Tensor, mlp: Any) -> paddle.Tensor:
    """The same where no gradient is asked for: GELU inside the first product."""
    dtype = compute_type()
    hidden = product(x, mlp.fc1.weight, mlp.fc1.bias, dtype, out=dtype, activate=True)
    return product(hidden, mlp.fc2.weight, mlp.fc2.bias, dtype)


class Attention(PyLayer):
    """`models.layers.Attention` with both matrices frozen: [N, L, D] -> [N, L, D]."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.dtype, ctx.layer = compute_type(), layer
        qkv = product(x, layer.qkv.weight, layer.qkv.bias, ctx.dtype, out=ctx.dtype)
        mixed, attention = _mix(*_heads(qkv, layer.num_heads, 3), layer.scale)
        _keep(ctx, qkv, attention)
        return product(mixed, layer.proj.weight, layer.proj.bias, ctx.dtype)

    @staticmethod
    def backward(ctx, grad):
        layer = ctx.layer
        grad = product(grad, layer.proj.weight, None, ctx.dtype, out=ctx.dtype, transposed=True)
        grad = _qkv_gradient(ctx, grad, layer.num_heads, layer.scale)
        return product(grad, layer.qkv.weight, None, ctx.dtype, transposed=True)


class ClassTokenAttention(PyLayer):
    """What `Attention` gives the first token: [N, L, D] -> [N, 1, D]. The others are asked, and ask nothing."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.dtype, ctx.layer = compute_type(), layer
        q, kv = (product(part, layer.qkv.weight, layer.qkv.bias, ctx.dtype, out=ctx.dtype, columns=columns)
                 for part, columns in zip((x[:, :1], x), _q_and_kv(x.shape[-1])))
        mixed, attention = _mix(*_heads(q, layer.num_heads, 1), *_heads(kv, layer.num_heads, 2), layer.scale)
        ctx.save_for_backward(q, kv, attention)
        return product(mixed, layer.proj.weight, layer.proj.bias, ctx.dtype)

    @staticmethod
    def backward(ctx, grad):
        layer, heads = ctx.layer, ctx.layer.num_heads
        q, kv, attention = ctx.saved_tensor()
        of_q, of_kv = paddle.empty(q.shape, q.dtype), paddle.empty(kv.shape, kv.dtype)
        grad = product(grad, layer.proj.weight, None, ctx.dtype, out=ctx.dtype, transposed=True)
        _mix_gradient(attention, *_heads(grad, heads, 1), (*_heads(q, heads, 1), *_heads(kv, heads, 2)),
                      (*_heads(of_q, heads, 1), *_heads(of_kv, heads, 2)), layer.scale)
        by_q, out = (product(part, layer.qkv.weight, None, ctx.dtype, transposed=True, columns=columns)
                     for part, columns in zip((of_q, of_kv), _q_and_kv(q.shape[-1])))
        out[:, :1] = out[:, :1] + by_q
        return out


def _q_and_kv(width: int) -> tuple[range, range]:
    """Which columns of the matrix of q, k and v are q's, and which the others'."""
    return range(width), range(width, 3 * width)


class Mix(PyLayer):
    """softmax(scale q k^T) v of all heads: q, k, v side by side [N, L, 3 D] -> [N, L, D]."""

    @staticmethod
    def forward(ctx, qkv, heads, scale):
        ctx.dtype, ctx.heads, ctx.scale = compute_type(), heads, scale
        qkv = cast(qkv, ctx.dtype)
        mixed, attention = _mix(*_heads(qkv, heads, 3), scale)
        _keep(ctx, qkv, attention)
        return cast(mixed, paddle.float32)

    @staticmethod
    def backward(ctx, grad):
        return cast(_qkv_gradient(ctx, cast(grad, ctx.dtype), ctx.heads, ctx.scale), paddle.float32)


def attention_forward(x: paddle.Tensor, layer: Any) -> paddle.Tensor:
    """What `Attention` computes, where no gradient is asked for."""
    dtype = compute_type()
    qkv = product(x, layer.qkv.weight, layer.qkv.bias, dtype, out=dtype)
    mixed, _ = _mix(*_heads(qkv, layer.num_heads, 3), layer.scale)
    return product(mixed, layer.proj.weight, layer.proj.bias, dtype)


def _mix(q: View, k: View, v: View, scale: float) -> tuple[paddle.Tensor, paddle.Tensor]:
    """(mixed values [N, Q, D], attention [N, H, Q, L]) in the type of `q`; the softmax is computed in float32."""
    n, heads, tokens, inner = q.shape
    attention = _attention(q, k, scale)
    mixed = paddle.empty([n, tokens, heads * inner], q.tensor.dtype)
    matmul(whole(attention), v, *_heads(mixed, heads, 1))
    return mixed, attention


def _attention(q: View, k: View, scale: float) -> paddle.Tensor:
    scores = paddle.empty([*q.shape[:3], k.shape[2]], "float32")
    matmul(q, k.transposed(), whole(scores), scale=scale)
    return softmax(scores, q.tensor.dtype)


def _keep(ctx: Any, qkv: paddle.Tensor, attention: paddle.Tensor) -> None:
    """The attention only where it is no longer than q, k and v: else it is quicker made again than kept."""
    ctx.save_for_backward(qkv, *([attention] if attention.size <= qkv.size else []))


def _qkv_gradient(ctx: Any, grad: paddle.Tensor, heads: int, scale: float) -> paddle.Tensor:
    """Of q, k, v [N, L, 3 D], from that of the mixed values [N, L, D]."""
    qkv, *kept = ctx.saved_tensor()
    q, k, v = _heads(qkv, heads, 3)
    out = paddle.empty(qkv.shape, qkv.dtype)
    _mix_gradient(kept[0] if kept else _attention(q, k, scale), *_heads(grad, heads, 1), (q, k, v),
                  _heads(out, heads, 3), scale)
    return out


def _mix_gradient(attention: paddle.Tensor, of_mixed: View, qkv: Sequence[View], out: Sequence[View],
                  scale: float) -> None:
    """The gradients of q, k and v are written to `out`."""
    (q, k, v), (of_q, of_k, of_v) = qkv, out
    matmul(whole(attention).transposed(), of_mixed, of_v)
    of_attention = paddle.empty(attention.shape, attention.dtype)
    matmul(of_mixed, v.transposed(), whole(of_attention))
    of_scores = whole(softmax_gradient(attention, of_attention))
    matmul(of_scores, k, of_q, scale=scale)
    matmul(of_scores.transposed(), q, of_k, scale=scale)


def _heads(tensor: paddle.Tensor, heads: int, parts: int) -> list[View]:
    """Each of the parts of [N, L, parts * D] as [N, H, L, d], where it lies."""
    n, tokens, width = tensor.shape
    inner = width // parts
    return [View(tensor, (n, heads, tokens, inner // heads), (tokens * width, inner // heads, width, 1), part * inner)
            for part in range(parts)]


def _sum_rows(grad: paddle.Tensor) -> paddle.Tensor:
    """Over all axes but the last, as a product with ones: Paddle's CPU sum takes ten times as long."""
    out, ones = paddle.empty([1, grad.shape[-1]]), paddle.ones([1, grad.size // grad.shape[-1]])
    matmul(whole(ones), rows(grad), whole(out))
    return out.reshape([-1])
