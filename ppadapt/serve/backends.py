"""Who computes: images float32 [N, C, H, W] in, what the task answers out, float32 [N, classes].

Each may be called from several threads. Paddle Inference's predictor and OpenVINO's request are one input, one output
and one workspace, and dygraph's no_grad is one switch for the process, so calls take turns there; each uses all cores
anyway.
"""
from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import paddle

from .. import cpu, paddle_compat
from ..errors import ConfigError, choose
from ..tasks import Task
from .export import STEM, SUFFIXES, check_kind, import_package

Predict = Callable[[np.ndarray], np.ndarray]
BACKENDS = ("dygraph", "paddle_inference", "onnx", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16")
# Format of an exported folder -> the backends that read it; the first where none is named.
READERS = {"paddle": ("paddle_inference",), "paddle-2.6": ("paddle_inference",), "onnx": ("onnx", "openvino")}


def check(backend: str, precision: str, device: str) -> None:
    """Raises ConfigError for an unknown backend or precision, and for what does not go together."""
    if backend not in BACKENDS:
        raise ConfigError(choose("--backend", backend, BACKENDS))
    if precision not in PRECISIONS:
        raise ConfigError(choose("--precision", precision, PRECISIONS))
    if precision == "float32":
        return
    if backend not in ("paddle_inference", "openvino"):
        raise ConfigError(f"--precision {precision} is for --backend paddle_inference or openvino: {backend} "
                          "computes in float32")
    if device == "cpu" and precision == "float16":
        raise ConfigError("--precision float16 is for a GPU: a CPU takes bfloat16 or float32")
    if device == "cpu" and paddle_compat.missing("bfloat16 inference on a CPU"):
        raise ConfigError(f"--precision bfloat16: {paddle_compat.missing('bfloat16 inference on a CPU')}")
    if device == "cpu" and not paddle_compat.cpu_has_bfloat16():
        raise ConfigError("--precision bfloat16 needs a processor with AVX-512: use float32")


def _in_turn(predict: Predict) -> Predict:
    """The same for several threads: one call at a time."""
    lock = threading.Lock()

    @functools.wraps(predict)
    def alone(images: np.ndarray) -> np.ndarray:
        with lock:
            return predict(images)

    return alone


def _of_images(predict: Predict) -> Predict:
    """`predict`, which sees nothing but batches of float32 in order: Paddle Inference's C++ side ends the process on
    an empty one, and answers to other kinds with its own inner errors."""
    @functools.wraps(predict)
    def checked(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype.kind != "f" or images.ndim < 2 or not images.size:
            raise ConfigError(f"images are {images.dtype} {list(images.shape)}: give one or more, float32 "
                              "[N, C, H, W], made ready by the operators of the evaluation")
        return predict(np.ascontiguousarray(images, np.float32))

    return checked


def dygraph(network, task: Task) -> Predict:
    """The network as it is, in eval mode."""

    @_of_images
    @_in_turn
    @paddle.no_grad()
    def predict(images: np.ndarray) -> np.ndarray:
        logits = network(paddle.to_tensor(images)).astype("float32")
        return task.probabilities(logits).numpy()

    return predict


def load(folder: Path, kind: str, device: str = "cpu", precision: str = "float32",
         backend: Optional[str] = None) -> Predict:
    """The model of an exported folder.

    Args:
        kind: of the export, one of `READERS`.
        device: "cpu", "gpu" or "gpu:N". On a GPU half precision is untested (this project has none).
        precision: what the backend computes in; images and probabilities are float32 all the same.
        backend: one of those that read this kind; None: the first.

    Raises:
        ConfigError: when a file or package is missing, or the model cannot be loaded.
    """
    backend = backend or READERS[kind][0]
    check(backend, precision, device.partition(":")[0])
    if backend == "openvino":
        return _of_images(_openvino(folder, device, precision))
    return _of_images(_onnx(folder, device) if backend == "onnx" else
                      _paddle_inference(folder, kind, device, precision))


def _paddle_inference(folder: Path, kind: str, device: str, precision: str) -> Predict:
    from paddle import inference

    check_kind(kind)
    files = [folder / f"{STEM}{suffix}" for suffix in (SUFFIXES[kind], ".pdiparams")]
    _need(files)
    config = inference.Config(*map(str, files))
    config.disable_glog_info()
    paddle_compat.enable_memory_optimisation(config)
    if device == "cpu":
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(cpu.cores())
        config.enable_mkldnn()
        if precision == "bfloat16":
            config.enable_mkldnn_bfloat16()
    else:
        kinds = inference.PrecisionType
        config.enable_use_gpu(256, int(device.partition(":")[2] or 0), {
            "float32": kinds.Float32, "float16": kinds.Half, "bfloat16": kinds.Bfloat16}[precision])
    try:
        predictor = inference.create_predictor(config)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"Paddle Inference {paddle.__version__} cannot load {files[0]}: "
                          f"{' '.join(str(error).split())[-300:]}") from None
    given = predictor.get_input_handle(predictor.get_input_names()[0])
    answer = predictor.get_output_handle(predictor.get_output_names()[0])

    @_in_turn
    def predict(images: np.ndarray) -> np.ndarray:
        given.reshape(images.shape)
        given.copy_from_cpu(images)
        predictor.run()
        return answer.copy_to_cpu()

    return predict


def _onnx(folder: Path, device: str) -> Predict:
    runtime = import_package("onnxruntime")
    file = folder / f"{STEM}{SUFFIXES['onnx']}"
    _need([file])
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cpu.cores()
    options.log_severity_level = 3  # it warns of every constant that the converter left over
    providers = ["CPUExecutionProvider"]
    if device != "cpu":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}))
    try:
        session = runtime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # of its C++ side, whatever it raises
        raise ConfigError(f"onnxruntime {runtime.__version__} cannot load {file}: "
                          f"{' '.join(str(error).split())[-300:]}") from None
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _openvino(folder: Path, device: str, precision: str) -> Predict:
    if device != "cpu":
        raise ConfigError(f"--backend openvino computes on a CPU, and the device is {device}: set Global.device to "
                          "cpu, or take another backend")
    runtime = import_package("openvino")
    file = folder / f"{STEM}{SUFFIXES['onnx']}"
    _need([file])
    try:
        model = runtime.Core().compile_model(str(file), "CPU", {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": cpu.cores(), "PERFORMANCE_HINT": "LATENCY"})
    except Exception as error:  # of its C++ side, whatever it raises
        raise ConfigError(f"openvino {runtime.__version__} cannot load {file}: "
                          f"{' '.join(str(error).split())[-300:]}") from None
    return _in_turn(lambda images: model(images)[0])


def _need(files: list[Path]) -> None:
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file} does not exist: export the network anew with `ppadapt export`")
