"""All that is private to Paddle, and all that differs between Paddle 2.6.2 and 3.3.

The rest of the package asks here and never for a version, so a new Paddle is tried by one file's tests
(tests/test_paddle_compat.py, one a symbol). Which versions pass: docs/paddle_versions.md.
"""
from __future__ import annotations

import contextlib
import functools
import signal
import threading
from pathlib import Path
from typing import Any, Callable, ContextManager, Mapping, Optional, Union

import numpy as np
import paddle
from paddle import nn
from paddle.base import core
from paddle.distributed.fleet.utils import recompute as _recompute

VERSION = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in paddle.__version__.split(".")[:3])
BEFORE_3 = VERSION != (0, 0, 0) and VERSION < (3,)  # 0.0.0 is what Paddle's nightly builds call themselves


# ---- what a version cannot do -------------------------------------------------------------------------------------

_HEADERS = Path(paddle.__file__).parent / "include" / "paddle" / "phi"
# Name -> (whether this Paddle has it, what to do without). A test that needs one is marked `needs_paddle(name)`.
FEATURES: dict[str, tuple[Callable[[], bool], str]] = {
    "export to .json": (lambda: not BEFORE_3, "choose --format paddle-2.6 (.pdmodel), which later versions read too"),
    "export to ONNX": (lambda: not BEFORE_3, "choose --format paddle-2.6 (.pdmodel)"),
    "bfloat16 inference on a CPU": (lambda: not BEFORE_3, "choose --precision float32"),
    # It crashes the interpreter: batch_norm hands empty tensors to the hooks that recompute works by.
    "recompute of a BatchNorm": (lambda: BEFORE_3 or VERSION >= (3, 3), "train without Global.recompute"),
    "random state of a CPU": (lambda: random_state() is not None,
                              "dropout draws anew where a run goes on from inside an epoch"),
    "products of empty tensors": (lambda: _multiplies_nothing(), "give at least one row"),
    "tracing without full_graph": (lambda: not BEFORE_3, "trace with full_graph=True, as exports do"),
    "rounding of bfloat16 on a CPU": (lambda: not _cpu_cuts_digits_off("bfloat16"),
                                      "gradients in bfloat16 are a little further from float32's"),
    "plugins of devices": (lambda: (_HEADERS / "core" / "dense_tensor.inl").is_file()
                           and (_HEADERS / "backends" / "custom" / "fake_cpu_device.h").is_file()
                           and hasattr(core, "get_all_custom_device_type"), "mixed precision needs a GPU"),
    "count of a run's memory": (lambda: hasattr(core, "host_memory_stat_reset_peak_value"),
                                "the memory of a run is not known"),
    **{name: (functools.partial(hasattr, paddle.optimizer, name), "choose Adam, AdamW, Momentum or SGD")
       for name in ("ASGD", "NAdam", "RAdam", "Rprop")},
}


def _multiplies_nothing() -> bool:
    try:
        return paddle.addmm(paddle.zeros([1, 2]), paddle.zeros([0, 2]), paddle.zeros([2, 2])).shape == [0, 2]
    except (ValueError, RuntimeError):
        return False


def missing(feature: str) -> str:
    """Why this Paddle cannot do `feature`, and what to do without, in words; "" where it can."""
    has, instead = FEATURES[feature]
    return "" if has() else f"Paddle {paddle.__version__} has no {feature}: {instead}"


# ---- layers -------------------------------------------------------------------------------------------------------

# The class under every BatchNorm and SyncBatchNorm.
AnyBatchNorm = nn.layer.norm._BatchNormBase
# Where it keeps its running mean and variance: among its parameters, which never train.
RUNNING_STATISTICS = ("_mean", "_variance")


def hooks_of(layer: nn.Layer) -> tuple[dict, dict]:
    """Its hooks before and after forward, by number, as Paddle holds them: deleting one takes it off."""
    return layer._forward_pre_hooks, layer._forward_post_hooks


def add_hook(layer: nn.Layer, hook: Callable, after: bool) -> None:
    """Register a hook before or after forward, in a dict of hooks that takes the place of the layer's: a thread that is
    in the layer's call goes on over the one that there was.
    """
    holder, name = nn.Identity(), "_forward_post_hooks" if after else "_forward_pre_hooks"
    setattr(holder, name, type(getattr(layer, name))(getattr(layer, name)))
    (holder.register_forward_post_hook if after else holder.register_forward_pre_hook)(hook)
    setattr(layer, name, getattr(holder, name))


def normalized_shape(layer: nn.LayerNorm) -> list[int]:
    """The sizes of the axes that a LayerNorm normalises."""
    return layer._normalized_shape


def epsilon(layer: nn.LayerNorm) -> float:
    """What a LayerNorm adds to the variance."""
    return layer._epsilon


def convolution(layer: nn.Layer) -> tuple[Any, Any, Any, int, str]:
    """Stride, padding, dilation, groups and the padding's mode of a convolution."""
    return layer._stride, layer._padding, layer._dilation, layer._groups, layer._padding_mode


def twin(layer: nn.Layer, kind: type, tensors: Mapping[str, paddle.Tensor],
         children: Mapping[str, nn.Layer]) -> nn.Layer:
    """A layer of class `kind` that is `layer` but for its own parameters and buffers, of which those named are
    replaced, and its sublayers. Nothing is initialised: it is made in microseconds.
    """
    made = object.__new__(kind)
    own = vars(made)
    own.update(vars(layer))
    for things in ("_parameters", "_buffers"):
        own[things] = {name: tensors.get(name, value) for name, value in own[things].items()}
    own["_sub_layers"] = dict(children)
    return made


def same_parts(layer: nn.Layer, other: nn.Layer) -> None:
    """Let `layer` have the parameters, buffers and sublayers of `other`, under the same names and from now on."""
    for things in ("_parameters", "_buffers", "_non_persistable_buffer_names_set", "_sub_layers"):
        object.__setattr__(layer, things, getattr(other, things))


def parameters_of(optimizer: paddle.optimizer.Optimizer) -> list[paddle.Tensor]:
    """What an optimizer was given to train."""
    return optimizer._parameter_list


def truncated_normal(std: float, cut: Optional[float] = None) -> nn.initializer.Initializer:
    """Draws from a normal distribution around 0, cut at -cut and cut (None: at 2, as timm and PyTorch have it).

    Paddle 2.6 cuts at two deviations and nowhere else.
    """
    if not BEFORE_3:
        return nn.initializer.TruncatedNormal(std=std, **({} if cut is None else {"a": -cut, "b": cut}))
    cut = 2.0 if cut is None else cut
    if np.isclose(cut, 2 * std):
        return nn.initializer.TruncatedNormal(std=std)
    if cut > 6 * std:  # one of 500 million is further out
        return nn.initializer.Normal(std=std)
    raise NotImplementedError(f"Paddle {paddle.__version__} cuts a normal distribution at two deviations, and {cut} "
                              f"was asked for with a deviation of {std}")


# ---- types --------------------------------------------------------------------------------------------------------

def autocasting() -> bool:
    """Whether AMP decides what the next operation computes in."""
    tracer = _tracer()
    return tracer is not None and tracer._amp_level != core.AmpLevel.O0


def autocast_dtype() -> paddle.dtype:
    """The type of AMP's products, while `autocasting()`."""
    return getattr(paddle, _tracer()._amp_dtype)


def _tracer() -> Any:
    return paddle.base.framework._dygraph_tracer()


def name_of(dtype: Union[str, paddle.dtype]) -> str:
    """"float32" of paddle.float32."""
    return str(dtype).rsplit(".", 1)[-1]


def cast(tensor: paddle.Tensor, dtype: Union[str, paddle.dtype]) -> paddle.Tensor:
    """`tensor.astype(dtype)`, rounded to the nearest. On a CPU some Paddles cut the digits off (float16 until 3.1)."""
    if _cuts_digits_off(tensor, dtype):
        tensor = paddle.to_tensor(_round(tensor.numpy(), dtype), place=tensor.place)
    return tensor.astype(dtype)


def cast_layer(layer: nn.Layer, dtype: str) -> None:
    """Keep a layer's parameters in another type, in place, rounded to the nearest."""
    for p in layer.parameters():
        if _cuts_digits_off(p, dtype):
            p.set_value(_round(p.numpy(), dtype))
    layer.to(dtype=dtype)


def _cuts_digits_off(tensor: paddle.Tensor, dtype: Union[str, paddle.dtype]) -> bool:
    return (tensor.dtype == paddle.float32 and tensor.place.is_cpu_place()
            and name_of(dtype) in ("float16", "bfloat16") and _cpu_cuts_digits_off(name_of(dtype)))


@functools.cache
def _cpu_cuts_digits_off(dtype: str) -> bool:
    almost_two = paddle.to_tensor(2 - 2.0 ** -20, dtype="float32", place=paddle.CPUPlace())
    return float(almost_two.astype(dtype).astype("float32")) != 2


def _round(array: np.ndarray, dtype: Union[str, paddle.dtype]) -> np.ndarray:
    """The nearest numbers that `dtype` has, in float32."""
    if name_of(dtype) == "float16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)
    bits = np.asarray(array, order="C").view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(array), array, rounded.view(np.float32))


def cpu_has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 (AVX-512)."""
    return core.supports_bfloat16()


# ---- signals and processes ----------------------------------------------------------------------------------------

def give_signals_back() -> None:
    """Paddle's import takes SIGTERM for itself, to print a C++ traceback: a handler that the program had counts again.
    Only the main thread can do it."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


give_signals_back()


def end_reading(batches: Any) -> None:
    """End an iterator of a DataLoader before its last batch: else its thread and its workers stay with this process."""
    if not batches._shutdown:
        batches._exit_thread_expectedly()
        if batches._thread is not None:
            batches._thread.join(0.2)  # of Paddle's own wait a step is a second
        batches._try_shutdown_all()


# ---- random numbers ----------------------------------------------------------------------------------------------

def random_state() -> Optional[list]:
    """Paddle's random state on this device as plain data; None where this version does not tell it (2.6 on a CPU)."""
    state = [list(one.__getstate__()) for one in paddle.get_rng_state()]
    return None if BEFORE_3 and paddle.get_device() == "cpu" else state


def set_random_state(state: list) -> None:
    """The inverse of `random_state`."""
    kind = type(paddle.get_rng_state()[0])
    made = []
    for given in state:
        one = kind.__new__(kind)
        one.__setstate__(tuple(given))
        made.append(one)
    paddle.set_rng_state(made)


# ---- training -----------------------------------------------------------------------------------------------------

def overflowed(scaler: paddle.amp.GradScaler) -> bool:
    """Whether the last step was left out, for its scaled gradients were not finite."""
    return bool(scaler._cache_found_inf)


def recompute(function: Callable, *inputs: Any, **named: Any) -> Any:
    """`function(*inputs, **named)`, whose inner tensors are made again in the backward pass, dropout included.

    Paddle's re-entrant way gives parameters no gradient where the input needs none, so the other one is used. In 2.6
    it does not bring the random state of a CPU back, which is done here.
    """
    if not BEFORE_3 or not paddle.get_device().startswith("cpu"):
        return _recompute(function, *inputs, use_reentrant=False, **named)
    state, again = paddle.get_rng_state(), False

    def run(*inputs: Any, **named: Any) -> Any:
        nonlocal again
        if not again:
            again = True
            return function(*inputs, **named)
        now = paddle.get_rng_state()
        paddle.set_rng_state(state)
        try:
            return function(*inputs, **named)
        finally:
            paddle.set_rng_state(now)

    return _recompute(run, *inputs, use_reentrant=False, preserve_rng_state=False, **named)


def reset_tensor_peak() -> bool:
    """Begin to count `tensor_peak` anew; whether this Paddle can. 2.6 cannot, and loses count where threads end."""
    if _on_gpu():
        paddle.device.cuda.empty_cache()
        reset, arguments = getattr(paddle.device.cuda, "reset_max_memory_allocated", None), ()
    else:
        reset, arguments = getattr(core, "host_memory_stat_reset_peak_value", None), ("Allocated", 0)
    if reset is None:
        return False
    reset(*arguments)
    return True


def tensor_peak() -> int:
    """The most bytes that tensors on the current device took at once since `reset_tensor_peak`."""
    return (paddle.device.cuda.max_memory_allocated() if _on_gpu()
            else core.host_memory_stat_peak_value("Allocated", 0))


def _on_gpu() -> bool:
    return paddle.is_compiled_with_cuda() and paddle.get_device().startswith("gpu")


# ---- export and Paddle Inference ----------------------------------------------------------------------------------

def tracing_old_format(operations: Mapping[str, Callable]) -> ContextManager[None]:
    """What is traced and saved inside is of the format of Paddle 2.6, which 2.6 writes anyway.

    Later Paddles compile some functions for the new representation (PIR) alone, which refuse the old one's variables:
    `operations` are put in the place of Paddle's functions of these names meanwhile.
    """
    return contextlib.nullcontext() if BEFORE_3 else _old_format(operations)


@contextlib.contextmanager
def _old_format(operations: Mapping[str, Callable]):
    homes = (paddle, nn.functional, paddle.base.framework.Variable)
    places = [(home, name) for name in operations for home in homes if hasattr(home, name)]
    before = [getattr(home, name) for home, name in places]
    with paddle.pir_utils.OldIrGuard():
        try:
            for home, name in places:
                setattr(home, name, operations[name])
            yield
        finally:
            for (home, name), function in zip(places, before):
                setattr(home, name, function)


def append_operation(kind: str, inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    """Add an operation of the old format to the program that is traced; its output, of the first input's type."""
    helper = paddle.base.layer_helper.LayerHelper(kind)
    output = helper.create_variable_for_type_inference(next(iter(inputs.values())).dtype)
    helper.append_op(type=kind, inputs=dict(inputs), outputs={"Out": output}, attrs=dict(attributes))
    return output


def enable_memory_optimisation(config: Any) -> None:
    """Let Paddle Inference reuse memory. Without the new executor 3.3.1 refuses .json, and bfloat16 of .pdmodel."""
    if hasattr(config, "enable_new_ir"):
        config.enable_new_ir(True)
        config.enable_new_executor(True)
    config.enable_memory_optim()
