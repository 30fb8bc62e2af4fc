"""What being frozen makes cheaper. Switched on in one place, `attach`; the networks do not know.

A layer with frozen weights needs only the gradient of its input. Paddle's autograd keeps more than that takes:
the input of every Linear, for a weight gradient nobody wants. The layers here replace the class of the
network's own (`layer.__class__`), so that names and parameters stay as they are, and fall back to plain
Paddle wherever they have nothing to offer: nothing below asks for a gradient, a weight trains again, the
network is traced for export. What each of them brought, and what did not pay: docs/performance.md.
"""
from __future__ import annotations

import math

import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from ...models.anatomy import hooked
from ...models.layers import HALF, Attention, Mlp, PatchEmbed
from ...paddle_compat import autocast_dtype, autocasting, cast_layer, epsilon, normalized_shape
from .onednn import layers as onednn
from .onednn.support import usable as onednn_usable

DTYPES = ("float32", "bfloat16", "float16")


def prepare_frozen(network: nn.Layer, cheap: bool = True) -> None:
    """Give the network's layers their cheap forward, in place.

    Args:
        network: with `stop_gradient` set on what is frozen. Where nothing is, nothing changes but on a CPU.
        cheap: False leaves all as plain Paddle has it, but for the fault of its LayerNorm.
    """
    if not any(p.stop_gradient for p in network.parameters()) and not (cheap and onednn_usable()):
        return
    swaps = {nn.LayerNorm: FrozenLayerNorm}
    if cheap:
        swaps.update({nn.LayerNorm: CheapLayerNorm, nn.Linear: CheapLinear, Attention: CheapAttention,
                      nn.GELU: CheapGelu, Mlp: CheapMlp, PatchEmbed: CheapPatchEmbed})
    for layer in network.sublayers(include_self=True):
        layer.__class__ = swaps.get(type(layer), type(layer))


def store_frozen(network: nn.Layer, dtype: str) -> int:
    """Keep the matrices of frozen Linears in `dtype`, in place: half the memory in bfloat16 or float16.

    That is nearly all of a transformer; norms, embeddings and the stem stay as they are, and so do Linears of which
    anything trains. Each use computes in the type of its input: under AMP of the same type nothing is cast any
    more; otherwise a float32 copy is made for the product and let go. What is lost: docs/performance.md.

    Returns:
        How many parameters are kept so.
    """
    count = 0
    for layer in network.sublayers(include_self=True):
        if type(layer) in (nn.Linear, FrozenLinear, CheapLinear) and _frozen(layer):
            if type(layer) is nn.Linear:
                layer.__class__ = FrozenLinear
            cast_layer(layer, dtype)
            count += sum(math.prod(p.shape) for p in layer.parameters())
    return count


class FrozenLinear(nn.Linear):
    """A Linear whose weights may be of another type than its input, which says what is computed in."""

    def forward(self, x):
        return F.linear(x, _meet(self.weight, x), _meet(self.bias, x))


class FrozenLayerNorm(nn.LayerNorm):
    """A LayerNorm with the right input gradient while its weight is frozen.

    Paddle 3.3.1's CPU kernel leaves the weight out of the input's gradient when the weight's own gradient
    is not asked for (`tests/tuning/test_frozen.py` shows it): training below a frozen LayerNorm would
    silently follow a wrong direction. So the gradient of a throw-away copy is asked for: D numbers a call.
    """

    def forward(self, x):
        weight = self.weight
        if wants_gradient(x) and weight is not None and weight.stop_gradient:
            weight = weight.clone()
            weight.stop_gradient = False
        return F.layer_norm(x, normalized_shape(self), weight, self.bias, epsilon(self))


class CheapLayerNorm(FrozenLayerNorm):
    """The same with a quicker gradient on a CPU, where Paddle's takes twenty times as long as the forward."""

    def forward(self, x):
        if self.weight is not None and self.bias is not None and len(normalized_shape(self)) == 1:
            if fits_onednn(x, self.weight, self.bias) and self.weight.dtype == self.bias.dtype == x.dtype:
                if wants_gradient(x, self.weight, self.bias):
                    return onednn.LayerNorm.apply(x, self.weight, self.bias, epsilon(self))
                return onednn.layer_norm(x, self.weight, self.bias, epsilon(self))[0]
            if wants_gradient(x) and quick_on_cpu(x, self.weight, self.bias) and _frozen(self):
                return _LayerNorm.apply(x, self)
        return FrozenLayerNorm.forward(self, x)


class CheapLinear(FrozenLinear):
    """A Linear that keeps its input only where its weight trains, and adds its bias in the matrix product."""

    def forward(self, x):
        if fits_onednn(x, self.weight, self.bias):
            if wants_gradient(x, self.weight, self.bias):
                return onednn.Linear.apply(x, self.weight, self.bias)
            return onednn.product(x, self.weight, self.bias, onednn.compute_type())
        quick = paddle.in_dynamic_mode() and quick_on_cpu(x, self.weight, self.bias)
        if wants_gradient(x, self.weight, self.bias):
            if quick or self.weight.stop_gradient:
                return _Linear.apply(x, self.weight, self.bias, quick)
        elif quick:
            return _affine(x, self.weight, self.bias)
        return FrozenLinear.forward(self, x)


class CheapGelu(nn.GELU):
    """A GELU that runs on all cores."""

    def forward(self, x):
        if self._approximate or not fits_onednn(x):
            return nn.GELU.forward(self, x)
        return onednn.Gelu.apply(x) if wants_gradient(x) else onednn.gelu(x)


class CheapPatchEmbed(PatchEmbed):
    """Patches through a matrix product: Paddle's convolution takes up to ten times as long on a CPU."""

    def embed(self, x):
        weight, bias = self.proj.weight, self.proj.bias
        if hooked(self.proj) or not fits_onednn(x, weight, bias):
            return PatchEmbed.embed(self, x)
        (n, channels, side, _), patch = x.shape, weight.shape[-1]
        count = side // patch
        x = x[:, :, :count * patch, :count * patch].reshape([n, channels, count, patch, count, patch])
        x = x.transpose([0, 2, 4, 1, 3, 5]).reshape([n, count * count, -1])
        weight = weight.reshape([weight.shape[0], -1])
        if wants_gradient(x, weight, bias):
            return onednn.Linear.apply(x, weight.transpose([1, 0]), bias)
        return onednn.product(x, weight, bias, paddle.float32, transposed=True)


class CheapMlp(Mlp):
    """An MLP that keeps what enters its GELU and nothing else."""

    def forward(self, x):
        if _in_one_piece((self.fc1, self.fc2), (self.drop,), (self.act,)) \
                and fits_onednn(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias):
            return onednn.Mlp.apply(x, self) if wants_gradient(x) else onednn.mlp_forward(x, self)
        return Mlp.forward(self, x)


class CheapAttention(Attention):
    """Attention on a CPU: q, k and v stay where their product puts them, and fewer things are kept."""

    def forward(self, x):
        weights = self.qkv.weight, self.qkv.bias, self.proj.weight, self.proj.bias
        if not _inactive(self.attn_drop):
            return Attention.forward(self, x)
        one_piece = _in_one_piece((self.qkv, self.proj), (self.proj_drop,))
        if fits_onednn(x, *weights):
            if one_piece:
                return onednn.Attention.apply(x, self) if wants_gradient(x) else onednn.attention_forward(x, self)
            mixed = onednn.Mix.apply(self.qkv(x), self.num_heads, self.scale)
            return self.proj_drop(self.proj(mixed))
        if one_piece and wants_gradient(x) and quick_on_cpu(x, *weights):
            return _Attention.apply(x, self)
        return Attention.forward(self, x)

    def of_class_token(self, x):
        """What a call returns for the first token, [N, L, D] -> [N, 1, D]; None where no more than a call can do."""
        if (hooked(self) or not _inactive(self.attn_drop) or not _in_one_piece((self.qkv, self.proj), (self.proj_drop,))
                or not fits_onednn(x, self.qkv.weight, self.qkv.bias, self.proj.weight, self.proj.bias)):
            return None
        return onednn.ClassTokenAttention.apply(x, self)


def _in_one_piece(linears, drops, others=()) -> bool:
    """Whether these layers can be computed together: the Linears are frozen, and nobody looks in between."""
    return (all(type(layer) is CheapLinear and _frozen(layer) and not hooked(layer) for layer in linears)
            and all(_inactive(drop) for drop in drops) and not any(hooked(layer) for layer in others))


def _inactive(drop: nn.Dropout) -> bool:
    return not (drop.training and drop.p) and not hooked(drop)


class _Linear(PyLayer):
    """x W + b: [..., I] -> [..., O]. `quick` is for a CPU."""

    @staticmethod
    def forward(ctx, x, weight, bias, quick):
        if not weight.stop_gradient:
            ctx.save_for_backward(x)
        ctx.weight, ctx.bias, ctx.wants_input, ctx.dtype = weight, bias, not x.stop_gradient, x.dtype
        y = _affine(x, weight, bias) if quick else F.linear(x, _meet(weight, x), _meet(bias, x))
        # Under AMP the product is in half precision, also where a bias that trains makes the sum float32.
        ctx.computed = autocast_dtype() if autocasting() else y.dtype
        return y

    @staticmethod
    def backward(ctx, grad):
        weight, bias = ctx.weight, ctx.bias
        rows = grad.reshape([-1, grad.shape[-1]])
        grad_x = grad_weight = grad_bias = None
        if ctx.wants_input:
            product = paddle.matmul(_cast(grad, ctx.computed), _cast(weight, ctx.computed), transpose_y=True)
            grad_x = _cast(product, ctx.dtype)
        if not weight.stop_gradient:
            x, = ctx.saved_tensor()
            grad_weight = paddle.matmul(x.reshape([-1, x.shape[-1]]), rows, transpose_x=True)
        if bias is None:
            return grad_x, grad_weight
        if not bias.stop_gradient:
            # A product with ones: Paddle's CPU sum over rows takes ten times as long.
            grad_bias = _cast(paddle.matmul(paddle.ones([1, rows.shape[0]], rows.dtype), rows).squeeze(0), bias.dtype)
        return grad_x, grad_weight, grad_bias


class _LayerNorm(PyLayer):
    """n w + b, n = (x - mean) / std: [..., D] -> [..., D].

    With u = w * grad, the gradient of x is (u - mean(u) - n mean(u n)) / std (Ba et al., arXiv 1607.06450).
    Means and broadcasts are matrix products, several times as fast as Paddle's on a CPU.
    """

    @staticmethod
    def forward(ctx, x, layer):
        ctx.save_for_backward(x)
        ctx.layer = layer
        return F.layer_norm(x, normalized_shape(layer), layer.weight, layer.bias,
                            epsilon(layer))

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensor()
        weight, eps = ctx.layer.weight, epsilon(ctx.layer)
        shape, dim = x.shape, x.shape[-1]
        x, grad = x.reshape([-1, dim]), grad.reshape([-1, dim])
        ones = paddle.ones([1, dim], x.dtype)
        average, weighted = ones.reshape([dim, 1]) / dim, weight.reshape([dim, 1]) / dim
        # Twice: of a mean far from zero, once leaves a rounding error behind. Paddle's gradient has it.
        centred = x - paddle.matmul(paddle.matmul(x, average), ones)
        centred = centred.subtract_(paddle.matmul(paddle.matmul(centred, average), ones))
        inverse = paddle.rsqrt(paddle.matmul(centred * centred, average) + eps)
        normal = centred.multiply_(paddle.matmul(inverse, ones))
        along, constant = paddle.matmul(grad * normal, weighted), paddle.matmul(grad, weighted)
        back = paddle.matmul(inverse, weight.reshape([1, dim])).multiply_(grad)
        back = back.subtract_(normal.multiply_(paddle.matmul(inverse * along, ones)))
        return back.subtract_(paddle.matmul(inverse * constant, ones)).reshape(shape)


class _Attention(PyLayer):
    """What `models.layers.Attention` computes, [N, L, D] -> [N, L, D]; inside, the heads come first: [H, N, L, d].

    The bias of k moves all of a query's logits alike, which softmax does not see. The bias of v passes through
    the weighted mean as it is, so it joins the bias of the projection.
    """

    @staticmethod
    def forward(ctx, x, layer):
        n, tokens, dim = x.shape
        heads, rows = layer.num_heads, n * tokens
        weight = _meet(layer.qkv.weight, x).reshape([dim, 3 * heads, -1]).transpose([1, 0, 2])
        qkv = paddle.matmul(x.reshape([1, rows, dim]), weight)
        q, k, v = qkv.reshape([3, heads, n, tokens, -1]).unbind(0)
        bias = layer.proj.bias
        if layer.qkv.bias is not None:
            q_bias, _, v_bias = _meet(layer.qkv.bias, x).reshape([3, -1]).unbind(0)
            q = q + paddle.matmul(paddle.ones([rows, 1], x.dtype), q_bias.reshape([heads, 1, -1])).reshape(q.shape)
            bias = F.linear(v_bias, _meet(layer.proj.weight, x), _meet(bias, x))
        q = q * layer.scale
        attention = F.softmax(paddle.matmul(q, k, transpose_y=True), axis=-1)
        ctx.layer, ctx.kept = layer, heads * tokens <= 3 * dim
        ctx.save_for_backward(q, k, v, *([attention] if ctx.kept else []))
        mixed = paddle.matmul(attention, v).transpose([1, 2, 0, 3]).reshape([n, tokens, -1])
        return _affine(mixed, layer.proj.weight, bias)

    @staticmethod
    def backward(ctx, grad):
        q, k, v, *kept = ctx.saved_tensor()
        layer, (heads, n, tokens, width) = ctx.layer, q.shape
        # The longest tensors of a ViT-B, and quicker to make again than anything else of their size.
        attention = kept[0] if kept else F.softmax(paddle.matmul(q, k, transpose_y=True), axis=-1)
        grad = paddle.matmul(grad, _meet(layer.proj.weight, grad), transpose_y=True)
        grad = grad.reshape([n, tokens, heads, width]).transpose([2, 0, 1, 3])
        grad_v = paddle.matmul(attention, grad, transpose_x=True)
        # Softmax: a (g - sum(a g)), the sum and its broadcast as matrix products.
        grad = paddle.matmul(grad, v, transpose_y=True)
        ones = paddle.ones([tokens, 1], grad.dtype)
        sums = paddle.matmul((grad * attention).reshape([-1, tokens]), ones)
        grad = grad.subtract_(paddle.matmul(sums, ones, transpose_y=True).reshape(grad.shape)).multiply_(attention)
        grad_q, grad_k = paddle.matmul(grad, k).scale_(layer.scale), paddle.matmul(grad, q, transpose_x=True)
        grad = paddle.concat([grad_q, grad_k, grad_v]).reshape([3 * heads, n * tokens, width])
        grad = grad.transpose([1, 0, 2]).reshape([n, tokens, -1])
        return paddle.matmul(grad, _meet(layer.qkv.weight, grad), transpose_y=True)


def _affine(x, weight, bias):
    """x W + b in one matrix product: Paddle's CPU broadcast of b takes up to half as long again."""
    weight, bias = _meet(weight, x), _meet(bias, x)
    if bias is None:
        return paddle.matmul(x, weight)
    y = paddle.addmm(bias.unsqueeze(0), x.reshape([-1, x.shape[-1]]), weight)
    return y.reshape([*x.shape[:-1], y.shape[-1]])


def wants_gradient(*tensors) -> bool:
    """Whether the next operation on these is recorded: in dynamic mode, not while a network is traced."""
    return (paddle.in_dynamic_mode() and paddle.is_grad_enabled()
            and any(t is not None and not t.stop_gradient for t in tensors))


def fits_onednn(x, *weights) -> bool:
    """Whether oneDNN computes with these: float32 on a CPU (weights may be kept in bfloat16), nothing traced."""
    def fits(w):
        return w is None or w.place.is_cpu_place() and w.dtype in (paddle.float32, paddle.bfloat16)

    return (paddle.in_dynamic_mode() and x.dtype == paddle.float32 and x.place.is_cpu_place() and x.size > 0
            and not autocasting() and all(fits(w) for w in weights) and onednn_usable())


def quick_on_cpu(x, *weights) -> bool:
    """Whether float32 or float64 is computed, on a CPU, and AMP off: where what pays was measured."""
    def fits(w):
        return w is None or w.place.is_cpu_place() and (w.dtype == x.dtype or w.stop_gradient and w.dtype in HALF)

    return (x.dtype in (paddle.float32, paddle.float64) and x.place.is_cpu_place() and not autocasting()
            and all(fits(w) for w in weights))


def _frozen(layer: nn.Layer) -> bool:
    return all(p.stop_gradient for p in layer.parameters())


def _meet(tensor, x):
    """A weight in the type that is computed in; under AMP that is for Paddle to say."""
    return tensor if tensor is None or autocasting() else _cast(tensor, x.dtype)


def _cast(tensor, dtype):
    return tensor if tensor.dtype == dtype else tensor.astype(dtype)
