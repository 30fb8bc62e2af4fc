"""Matrix products, GELU, softmax, LayerNorm and their gradients through oneDNN, on Paddle's CPU tensors.

Float32 is computed as Paddle computes it, to rounding. In bfloat16 products are accumulated in float32, and what is
not a product is computed in float32 inside.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Optional

import paddle

from . import library as lib

_FAR = 2  # a mean of as many standard deviations is far from zero
_KEPT = 512  # primitives: one for each shape that occurs, so a handful a network


@dataclass(frozen=True)
class View:
    """A tensor seen with another shape and strides (in elements), from `offset` elements on."""

    tensor: paddle.Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def layout(self) -> tuple:
        return self.shape, self.strides, self.tensor.dtype

    @property
    def address(self) -> int:
        size = 2 if self.tensor.dtype == paddle.bfloat16 else 4
        return self.tensor.data_ptr() + self.offset * size

    def transposed(self) -> View:
        """The last two axes exchanged."""
        return View(self.tensor, (*self.shape[:-2], self.shape[-1], self.shape[-2]),
                    (*self.strides[:-2], self.strides[-1], self.strides[-2]), self.offset)


def dense(tensor: paddle.Tensor) -> paddle.Tensor:
    """The tensor, copied where it is a view of another: oneDNN is given addresses, and takes in order what lies there.

    A slice (the class tokens x[:, 0]), a transposed tensor or the gradient of a broadcast are views, unless
    FLAGS_use_stride_kernel=0 was set before Paddle was imported, as `cpu` does where it comes first.
    """
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def whole(tensor: paddle.Tensor, *shape: int) -> View:
    """All of a tensor, with another shape if one is given."""
    shape = shape or tuple(tensor.shape)
    return View(dense(tensor), shape, lib.dense(shape))


def rows(tensor: paddle.Tensor) -> View:
    """A tensor [..., C] as the matrix [R, C]."""
    return whole(tensor, tensor.size // tensor.shape[-1], tensor.shape[-1])


def matmul(x: View, y: View, out: View, bias: Optional[paddle.Tensor] = None, scale: float = 1.0,
           gelu: bool = False) -> None:
    """out = act(scale * (x y + bias)): [..., M, K] x [..., K, N] -> [..., M, N]; `bias` is [N]."""
    bias = None if bias is None else dense(bias)
    primitive = _matmul(x.layout, y.layout, out.layout, None if bias is None else bias.dtype, scale, gelu)
    given = () if bias is None else (bias.data_ptr(),)
    primitive(x.address, y.address, *given, out.address)


def cast(x: paddle.Tensor, dtype: Any) -> paddle.Tensor:
    """A tensor, dense, in another type; itself where it is both."""
    x = dense(x)
    if x.dtype == dtype:
        return x
    out = paddle.empty(x.shape, dtype)
    _reorder(x.size, x.dtype, dtype)(x.data_ptr(), out.data_ptr())
    return out


def gelu(x: paddle.Tensor) -> paddle.Tensor:
    """GELU (erf form), of any shape."""
    x, out = dense(x), paddle.empty(x.shape, x.dtype)
    _gelu(*rows(x).shape, x.dtype)(x.data_ptr(), out.data_ptr())
    return out


def gelu_gradient(x: paddle.Tensor, grad: paddle.Tensor) -> paddle.Tensor:
    """Of GELU's input, written in the place of `grad`, or of its copy where that is a view."""
    x, grad = dense(x), dense(grad)
    _gelu_gradient(*rows(x).shape, x.dtype)(x.data_ptr(), grad.data_ptr(), grad.data_ptr())
    return grad


def softmax(x: paddle.Tensor, dtype: Any) -> paddle.Tensor:
    """Over the last axis, in `dtype`; in the place of `x` where that is its type (and no view)."""
    x = dense(x)
    out = x if x.dtype == dtype else paddle.empty(x.shape, dtype)
    _softmax(*rows(x).shape, x.dtype, dtype)(x.data_ptr(), out.data_ptr())
    return out


def softmax_gradient(y: paddle.Tensor, grad: paddle.Tensor) -> paddle.Tensor:
    """Of softmax's input, from its result; written in the place of `grad`, or of its copy where that is a view."""
    y, grad = dense(y), dense(grad)
    _softmax_gradient(*rows(y).shape, y.dtype)(y.data_ptr(), grad.data_ptr(), grad.data_ptr())
    return grad


def layer_norm(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float) -> tuple:
    """Over the last axis: (the result, means [R], variances [R]), float32."""
    count, width = rows(x).shape
    x, weight, bias = dense(x), dense(weight), dense(bias)
    out, mean, variance = paddle.empty(x.shape), paddle.empty([count]), paddle.empty([count])
    _layer_norm(count, width, epsilon)(x.data_ptr(), out.data_ptr(), mean.data_ptr(), variance.data_ptr(),
                                       weight.data_ptr(), bias.data_ptr())
    return out, mean, variance


def layer_norm_gradient(x: paddle.Tensor, grad: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor,
                        mean: paddle.Tensor, variance: paddle.Tensor, epsilon: float) -> tuple:
    """Of LayerNorm's input, weight and bias (oneDNN 3.6 has no gradient of the input alone where there is a weight)."""
    x, grad, weight, bias, mean, variance = map(dense, (x, grad, weight, bias, mean, variance))
    means, variances = (lib.floats(t.data_ptr(), t.size) for t in (mean, variance))
    if (means ** 2 > _FAR ** 2 * (variances + epsilon)).any():
        # Float32 has too few digits left for the deviations from such a mean: it is taken off first.
        centred = paddle.empty(x.shape)
        _subtract_from_rows(*rows(x).shape)(x.data_ptr(), mean.data_ptr(), centred.data_ptr())
        x, (_, mean, variance) = centred, layer_norm(centred, weight, bias, epsilon)
    out = [paddle.empty(tensor.shape) for tensor in (x, weight, bias)]
    _layer_norm_gradient(*rows(x).shape, epsilon)(
        *(t.data_ptr() for t in (x, grad, mean, variance, weight, bias, *out)))
    return tuple(out)


@functools.lru_cache(_KEPT)
def _matmul(x: tuple, y: tuple, out: tuple, bias_type: Any, scale: float, gelu: bool) -> lib.Primitive:
    library = lib.loaded()
    source, weight, result = (library.description(shape, dtype, strides) for shape, strides, dtype in (x, y, out))
    shift, arguments = None, [(lib.SOURCE, source), (lib.WEIGHT, weight)]
    if bias_type is not None:
        shape = out[0]
        shift = library.description([*(1 for _ in shape[:-1]), shape[-1]], bias_type)
        arguments.append((lib.BIAS, shift))
    post = [(lib.LINEAR, scale, 0.0)] * (scale != 1.0) + [(lib.GELU, 1.0, 0.0)] * gelu
    return lib.Primitive("dnnl_matmul_primitive_desc_create", (library.engine, source, weight, shift, result),
                         [*arguments, (lib.RESULT, result)], post=post)


@functools.lru_cache(_KEPT)
def _reorder(size: int, source: Any, target: Any) -> lib.Primitive:
    library = lib.loaded()
    x, out = library.description([size], source), library.description([size], target)
    return lib.Primitive("dnnl_reorder_primitive_desc_create", (x, library.engine, out, library.engine),
                         [(lib.SOURCE, x), (lib.RESULT, out)])


@functools.lru_cache(_KEPT)
def _gelu(count: int, width: int, dtype: Any) -> lib.Primitive:
    library = lib.loaded()
    x = library.description([count, width], dtype)
    return lib.Primitive("dnnl_eltwise_forward_primitive_desc_create",
                         (library.engine, lib.FORWARD, lib.GELU, x, x, 1.0, 0.0), [(lib.SOURCE, x), (lib.RESULT, x)])


@functools.lru_cache(_KEPT)
def _gelu_gradient(count: int, width: int, dtype: Any) -> lib.Primitive:
    library = lib.loaded()
    x = library.description([count, width], dtype)
    return lib.Primitive("dnnl_eltwise_backward_primitive_desc_create",
                         (library.engine, lib.GELU, x, x, x, 1.0, 0.0),
                         [(lib.SOURCE, x), (lib.RESULT_GRADIENT, x), (lib.SOURCE_GRADIENT, x)],
                         hint=_gelu(count, width, dtype))


@functools.lru_cache(_KEPT)
def _softmax(count: int, width: int, source: Any, target: Any) -> lib.Primitive:
    library = lib.loaded()
    x, out = library.description([count, width], source), library.description([count, width], target)
    return lib.Primitive("dnnl_softmax_forward_primitive_desc_create",
                         (library.engine, lib.FORWARD, lib.ACCURATE_SOFTMAX, x, out, 1),
                         [(lib.SOURCE, x), (lib.RESULT, out)])


@functools.lru_cache(_KEPT)
def _softmax_gradient(count: int, width: int, dtype: Any) -> lib.Primitive:
    library = lib.loaded()
    y = library.description([count, width], dtype)
    return lib.Primitive("dnnl_softmax_backward_primitive_desc_create",
                         (library.engine, lib.ACCURATE_SOFTMAX, y, y, y, 1),
                         [(lib.RESULT, y), (lib.RESULT_GRADIENT, y), (lib.SOURCE_GRADIENT, y)],
                         hint=_softmax(count, width, dtype, dtype))


@functools.lru_cache(_KEPT)
def _layer_norm(count: int, width: int, epsilon: float) -> lib.Primitive:
    library = lib.loaded()
    x, statistic, channel = (library.description(shape, paddle.float32) for shape in ([count, width], [count], [width]))
    return lib.Primitive("dnnl_layer_normalization_forward_primitive_desc_create",
                         (library.engine, lib.FORWARD, x, x, statistic, epsilon, lib.USE_SCALE | lib.USE_SHIFT),
                         [(lib.SOURCE, x), (lib.RESULT, x), (lib.MEAN, statistic), (lib.VARIANCE, statistic),
                          (lib.SCALE, channel), (lib.SHIFT, channel)])


@functools.lru_cache(_KEPT)
def _layer_norm_gradient(count: int, width: int, epsilon: float) -> lib.Primitive:
    library = lib.loaded()
    x, statistic, channel = (library.description(shape, paddle.float32) for shape in ([count, width], [count], [width]))
    return lib.Primitive("dnnl_layer_normalization_backward_primitive_desc_create",
                         (library.engine, lib.BACKWARD, x, x, x, statistic, epsilon, lib.USE_SCALE | lib.USE_SHIFT),
                         [(lib.SOURCE, x), (lib.RESULT_GRADIENT, x), (lib.MEAN, statistic), (lib.VARIANCE, statistic),
                          (lib.SCALE, channel), (lib.SHIFT, channel), (lib.SOURCE_GRADIENT, x),
                          (lib.SCALE_GRADIENT, channel), (lib.SHIFT_GRADIENT, channel)],
                         hint=_layer_norm(count, width, epsilon))


@functools.lru_cache(_KEPT)
def _subtract_from_rows(count: int, width: int) -> lib.Primitive:
    library = lib.loaded()
    x, row = (library.description([count, columns], paddle.float32) for columns in (width, 1))
    return lib.Primitive("dnnl_binary_primitive_desc_create", (library.engine, lib.SUBTRACT, x, row, x),
                         [(lib.SOURCE, x), (lib.SECOND_SOURCE, row), (lib.RESULT, x)])
