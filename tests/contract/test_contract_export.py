"""What every method exports computes the same where it is served."""
import importlib.util

import numpy as np
import paddle
import pytest
from test_contract_methods import CASES, adapt, images, logits, shake

from ppadapt import paddle_compat
from ppadapt.serve import backends
from ppadapt.serve.export import write_model
from ppadapt.serve.fold import for_inference
from ppadapt.tasks import SingleLabel

ONE_EACH = list({sections[-1][0]: case for case, sections in reversed(CASES.items())}.values())
ONNX, VINO = (pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in ("paddle2onnx", runtime)),
                                 reason=f"not installed: pip install 'ppadapt[{extra}]'")
              for runtime, extra in (("onnxruntime", "onnx"), ("openvino", "openvino")))


def served(case, folder, kind, precision="float32", backend=None):
    """The largest difference from dygraph of an exported network's probabilities, for two sizes of batches."""
    adaptation = adapt("vit_cls", case)
    shake(adaptation, adaptation.trained)
    expected = paddle.nn.functional.softmax(paddle.to_tensor(logits(adaptation, "vit_cls"))).numpy()
    write_model(for_inference(adaptation)[0], SingleLabel(), (3, 8, 8), folder, kind)
    predict = backends.load(folder, kind, precision=precision, backend=backend)
    given = images("vit_cls").numpy()
    found = [predict(given[:count]) for count in (4, 3)]
    assert [probabilities.shape for probabilities in found] == [(4, 5), (3, 5)]
    return max(np.abs(probabilities - expected[:len(probabilities)]).max() for probabilities in found)


JSON = pytest.mark.needs_paddle("export to .json")


@JSON
@pytest.mark.parametrize("case", ONE_EACH)
def test_an_export_of_any_batch_size_computes_the_same(case, tmp_path):
    assert served(case, tmp_path, "paddle") < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inference.json", "inference.pdiparams"]


@pytest.mark.parametrize("case", ["adaptformer", "adaptformer_layernorm_out", "vpt_deep", "ssf", "convpass"])
def test_so_does_the_format_of_paddle_2_6(case, tmp_path):
    assert served(case, tmp_path, "paddle-2.6") < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inference.pdiparams", "inference.pdmodel"]


@pytest.mark.skipif(not paddle_compat.cpu_has_bfloat16(), reason="this processor has no bfloat16")
@pytest.mark.needs_paddle("bfloat16 inference on a CPU")
@pytest.mark.parametrize("kind", ["paddle", "paddle-2.6"])
def test_bfloat16_is_nearly_the_same(kind, tmp_path):
    assert 1e-5 < served("adaptformer", tmp_path, kind, "bfloat16") < 0.02


@ONNX
@pytest.mark.needs_paddle("export to ONNX")
@pytest.mark.parametrize("case", ["adaptformer", "vpt_deep", "convpass"])
def test_so_does_onnx(case, tmp_path):
    assert served(case, tmp_path, "onnx") < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["inference.onnx"]


@VINO
@pytest.mark.needs_paddle("export to ONNX")
@pytest.mark.parametrize("case", ["adaptformer", "vpt_deep", "convpass"])
def test_so_does_openvino(case, tmp_path):
    assert served(case, tmp_path, "onnx", backend="openvino") < 1e-5


@VINO
@pytest.mark.needs_paddle("export to ONNX")
@pytest.mark.skipif(not paddle_compat.cpu_has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_of_openvino_is_nearly_the_same(tmp_path):
    assert 1e-5 < served("adaptformer", tmp_path, "onnx", "bfloat16", "openvino") < 0.02


def test_after_the_old_format_tracing_is_as_before(tmp_path):
    before = paddle.matmul, paddle.nn.functional.gelu, paddle.rsqrt
    served("linear", tmp_path, "paddle-2.6")
    assert (paddle.matmul, paddle.nn.functional.gelu, paddle.rsqrt) == before
    assert paddle.framework.use_pir_api() != paddle_compat.BEFORE_3
