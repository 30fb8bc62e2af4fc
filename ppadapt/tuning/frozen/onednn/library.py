"""oneDNN's C interface, as far as `operations` needs it: the libdnnl.so.3 of Paddle's wheel, through ctypes.

Paddle's dygraph multiplies with MKLML on one or two threads and computes GELU, softmax and LayerNorm on one; oneDNN
does all of them on all cores, and in bfloat16 where the processor can. Numbers: docs/performance.md.

The names and numbers are those of oneDNN 3's `dnnl.h` and `dnnl_types.h`. A function that returns a status is called
through `_check`. A *description* says what a tensor looks like; a *primitive* is an operation compiled for such ones.
"""
from __future__ import annotations

import ctypes
import functools
import os
import threading
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
import paddle

from ....cpu import cores

# dnnl_data_type_t, by Paddle's.
TYPES = {paddle.bfloat16: 2, paddle.float32: 3}
# Arguments of primitives.
SOURCE, SECOND_SOURCE, RESULT, WEIGHT, BIAS, MEAN, VARIANCE, SCALE, SHIFT = 1, 2, 17, 33, 41, 49, 50, 51, 52
SOURCE_GRADIENT, RESULT_GRADIENT, SCALE_GRADIENT, SHIFT_GRADIENT = 129, 145, 255, 256
# Kinds of propagation, algorithms, flags.
FORWARD, BACKWARD = 64, 128
ACCURATE_SOFTMAX, GELU, LINEAR, SUBTRACT = 0x30000, 0x31, 0x26, 0x1FFF5
USE_SCALE, USE_SHIFT = 2, 4
_CPU, _IN_ORDER, _MAX_DIMS = 1, 1, 12

_LOCK = threading.RLock()  # one operation at a time: each takes all cores, and a primitive has one set of arguments


class OneDNNError(RuntimeError):
    """A call that oneDNN refused."""


class Library:
    """The loaded library with an engine and a stream.

    Raises:
        OSError, AttributeError: where there is no such library, or it lacks a function.
        OneDNNError: for another major version.
    """

    def __init__(self) -> None:
        folder = Path(paddle.__file__).with_name("libs")
        self.functions = ctypes.CDLL(str(folder / "libdnnl.so.3"))
        self._openmp = ctypes.CDLL(str(folder / "libiomp5.so"))
        self._threads = threading.local()
        self._declare()
        version = self.functions.dnnl_version().contents
        if version[0] != 3:
            raise OneDNNError(f"version {version[0]}.{version[1]} is not 3")
        self.engine, self.stream = c_void_p(), c_void_p()
        _check(self.functions.dnnl_engine_create(byref(self.engine), _CPU, c_size_t(0)))
        _check(self.functions.dnnl_stream_create(byref(self.stream), self.engine, _IN_ORDER))

    def _declare(self) -> None:
        """Argument types, where C's default promotion of ctypes would be wrong: floats, and pointers as integers."""
        f, p = self.functions, c_void_p
        f.dnnl_version.restype = ctypes.POINTER(c_int * 3)
        f.dnnl_memory_set_data_handle.argtypes = [p, p]
        f.dnnl_post_ops_append_eltwise.argtypes = [p, c_int, c_float, c_float]
        f.dnnl_eltwise_forward_primitive_desc_create.argtypes = [p, p, c_int, c_int, p, p, c_float, c_float, p]
        f.dnnl_eltwise_backward_primitive_desc_create.argtypes = [p, p, c_int, p, p, p, c_float, c_float, p, p]
        f.dnnl_layer_normalization_forward_primitive_desc_create.argtypes = [p, p, c_int, p, p, p, c_float, c_uint, p]
        f.dnnl_layer_normalization_backward_primitive_desc_create.argtypes = [
            p, p, c_int, p, p, p, p, c_float, c_uint, p, p]

    def use_all_cores(self) -> None:
        """OpenMP's number of threads, which belongs to the calling thread; Paddle leaves it at one.

        A user's own OMP_NUM_THREADS counts (Paddle sets it to 1 itself, so that one does not).
        """
        if not getattr(self._threads, "set", False):
            self._openmp.omp_set_num_threads(threads())
            self._threads.set = True

    def description(self, shape: Sequence[int], dtype: Any, strides: Optional[Sequence[int]] = None) -> c_void_p:
        """Of a tensor with this shape; `strides` are in elements, those of a dense tensor when absent."""
        made, dims = c_void_p(), c_int64 * _MAX_DIMS
        strides = dense(shape) if strides is None else settled(shape, strides)
        _check(self.functions.dnnl_memory_desc_create_with_strides(
            byref(made), len(shape), dims(*shape), TYPES[dtype], dims(*strides)))
        return made


class Primitive:
    """An operation for tensors of fixed descriptions; called with the addresses of its tensors, in order.

    Args:
        create: name of the function that creates its description. options: that function's, between the description
            that it fills in and the hint or attributes at its end.
        arguments: pairs of an argument's number and the description of its tensor.
        hint: the forward primitive, for a backward one. post: (algorithm, alpha, beta) applied to the result.
    """

    def __init__(self, create: str, options: Sequence[Any], arguments: Sequence[tuple[int, c_void_p]],
                 hint: Optional[Primitive] = None, post: Sequence[tuple[int, float, float]] = ()) -> None:
        self.library = library = loaded()
        f = library.functions
        attributes = c_void_p()
        _check(f.dnnl_primitive_attr_create(byref(attributes)))
        if post:
            chain = c_void_p()
            _check(f.dnnl_post_ops_create(byref(chain)))
            for algorithm, alpha, beta in post:
                _check(f.dnnl_post_ops_append_eltwise(chain, algorithm, alpha, beta))
            _check(f.dnnl_primitive_attr_set_post_ops(attributes, chain))
        self.description, self.primitive = c_void_p(), c_void_p()
        hints = () if hint is None else (hint.description,)
        _check(getattr(f, create)(byref(self.description), *options, *hints, attributes))
        _check(f.dnnl_primitive_create(byref(self.primitive), self.description))
        self._memories = []
        for _, description in arguments:
            memory = c_void_p()
            _check(f.dnnl_memory_create(byref(memory), description, library.engine, c_void_p(0)))
            self._memories.append(memory)
        self._arguments = (_Argument * len(arguments))(
            *(_Argument(number, memory) for (number, _), memory in zip(arguments, self._memories)))

    def __call__(self, *addresses: int) -> None:
        f = self.library.functions
        with _LOCK:
            self.library.use_all_cores()
            for memory, address in zip(self._memories, addresses):
                f.dnnl_memory_set_data_handle(memory, address)
            _check(f.dnnl_primitive_execute(self.primitive, self.library.stream, len(addresses), self._arguments))
            _check(f.dnnl_stream_wait(self.library.stream))


class _Argument(ctypes.Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


@functools.cache
def loaded() -> Library:
    """The library, loaded once. Raises as `Library`."""
    return Library()


def floats(address: int, count: int) -> np.ndarray:
    """The float32 numbers that lie there, while they do: no copy is made."""
    return np.frombuffer((c_float * count).from_address(address), np.float32)


def threads() -> int:
    """How many threads an operation runs on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 1 else cores()


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense tensor, in elements."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def settled(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """The same memory, axes of length 1 with the stride that they have in a dense tensor.

    Any would do, but oneDNN takes [1, N] of strides (1, 1) for another layout and gives wrong products.
    """
    strides = list(strides)
    for i in reversed(range(len(shape))):
        if shape[i] == 1:
            strides[i] = max([1, *(stride * length for stride, length in zip(strides[i + 1:], shape[i + 1:]))])
    return tuple(strides)


def _check(status: int) -> None:
    if status:
        kind = {1: "out of memory", 2: "invalid arguments", 3: "not implemented"}.get(status, f"status {status}")
        raise OneDNNError(f"oneDNN: {kind}")
