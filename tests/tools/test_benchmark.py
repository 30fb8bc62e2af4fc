"""tools/benchmark.py: sides, ratios, files."""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ppadapt.tuning import METHODS

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import benchmark
    return benchmark


def test_ratios_are_medians_of_the_rounds_own_ratios(benchmark):
    def runs(*seconds):
        return [{"batch": 8, "seconds": s, "peak_mib": 100 * s, "step_mib": 10.0, "images_per_second": 8 / s}
                for s in seconds]

    part = benchmark.training
    text, claims = benchmark.report(part, {part.ADAPT: runs(1.0, 2.0, 3.0), part.FULL: runs(2.0, 2.5, 5.0)})
    time, memory = claims
    assert time["values"] == [0.5, 0.8, 0.6] and time["median"] == 0.6 and time["met"]
    assert memory["target"] == 0.55 and not memory["met"]
    assert "| AdaptFormer | 8 | 4.00 (2.67-8.00) | 200 (100-300) | 10 |" in text


def test_a_claim_may_be_a_difference_or_a_number_of_its_own(benchmark):
    part = benchmark.startup
    results = {part.PADDLE: [{"seconds": 1.0}], part.OURS: [{"seconds": 1.5}], part.HELP: [{"seconds": 1.5}]}
    over, help_ = benchmark.report(part, results)[1]
    assert over["median"] == 0.5 and not over["met"]
    assert help_["median"] == 1.5 and help_["met"]


def test_a_side_gets_its_own_variables_and_not_what_was_set_meanwhile(benchmark, monkeypatch):
    monkeypatch.setenv("PPADAPT_SET_LATER", "1")
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = benchmark.call([sys.executable, "-c", show], {"ASKED": "1"})
    assert seen["ASKED"] == "1" and "PPADAPT_SET_LATER" not in seen


def test_it_runs_and_writes_json_and_markdown(tmp_path):
    done = subprocess.run(
        [sys.executable, str(TOOLS / "benchmark.py"), "--arch", "vit_micro_patch4_32", "--batch", "4", "--rounds", "1",
         "--steps", "1", "--sides", "AdaptFormer", "AdaptFormer, recompute", "import paddle", "first batch of the demo",
         "32 px, test, image", "32 px, test, batch", "dygraph", "paddle_inference, float32",
         "--output", str(tmp_path)],
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "the PyTorch side is left out" in done.stderr
    told = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["parts"]
    run, = told["training"]["results"]["AdaptFormer"]
    assert run["seconds"] > 0 and len(run["step_seconds"]) == 1 and run["version"].startswith("paddle ")
    assert told["inference"]["sides"].keys() == {"dygraph", "paddle_inference, float32"}
    assert [c["what"] for c in told["training"]["claims"]] == ["step time, with recompute / without"]
    assert [c["what"] for c in told["inference"]["claims"]] == ["images/s, dygraph / Paddle Inference, float32"]
    assert [c["what"] for c in told["startup"]["claims"]] == ["first batch of the demo, s"]
    assert [c["what"] for c in told["pipeline"]["claims"]] == ["images/s in whole batches / one by one, 32 px, test"]
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8").strip() == done.stdout.strip()


def test_a_side_whose_packages_are_missing_is_left_out_and_said(benchmark, capsys):
    assert benchmark.installed("A", {"needs": ["json"]}) and benchmark.installed("B", {})
    assert not benchmark.installed("C", {"needs": ["json", "no_such_package"]})
    assert capsys.readouterr().err == "no no_such_package: C is left out\n"


def test_every_method_is_measured(benchmark):
    part = benchmark.methods
    sides = part.sides(argparse.Namespace(batch=2))
    assert sides.keys() == METHODS.keys()
    common = {"arch": "vit_micro_patch4_32", "sizes": {"img_size": 32}, "steps": 1, "device": "cpu"}
    found = part.measure({**sides["BitFit"], **common})  # biases, and a head of 100 classes
    assert found["trained"] == 13_056 + 100 * 193 and found["batch"] == 2 and found["images_per_second"] > 0
    text, _ = benchmark.report(part, {"BitFit": [found]})
    assert "| side | trained parameters | images/s | peak memory, MiB | of it the step's |" in text


def test_training_from_a_block_on_is_measured_against_training_of_all(benchmark):
    part = benchmark.features
    sides = part.sides(argparse.Namespace(cifar10=None, batch=4))
    assert list(sides) == [part.WHOLE, part.UPPER]
    common = {"arch": "vit_micro_patch4_32", "sizes": {"img_size": 32, "depth": 6}, "images": 8, "epochs": 2}
    whole, upper = (part.measure({**side, **common}) for side in sides.values())
    assert whole["top1"] == upper["top1"] and 0 < upper["epoch_seconds"] < whole["epoch_seconds"]


def test_an_unknown_side_is_named():
    done = subprocess.run([sys.executable, str(TOOLS / "benchmark.py"), "--sides", "AdaptFormers"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "'AdaptFormers' is unknown. Choose from: 'AdaptFormer'" in done.stderr


def test_a_probe_on_cached_features_is_measured_against_one_on_images(benchmark, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS.parent / "tests" / "data"))
    from test_data_cifar import make_cifar10

    root = make_cifar10(tmp_path, per_batch=26)
    common = {"root": str(root), "epochs": 1, "images": 130}
    images, warm = (benchmark.features.measure({**common, **side}) for side in (
        {"cache": False}, {"cache": True, "fill": True}))
    assert images["top1"] == warm["top1"]
    assert 0 < warm["training_seconds"] < warm["seconds"] < warm["whole_seconds"] and warm["cpu_seconds"] > 0
