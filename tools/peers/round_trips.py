"""What `ppadapt convert --to timm` and `--to peft` write, loaded by timm and by peft, against the golden files.

Needs the environment of tools/peers/README.md; not in CI. timm loads strictly. A line for each case; the exit code is
how many are off by more than 1e-5, relative.

    python tools/peers/round_trips.py
"""
from __future__ import annotations

import contextlib
import functools  # noqa: F401  the printed lines use it
import io
import json
import sys
import tempfile
from pathlib import Path

import torchvision_stub

torchvision_stub.install()
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import make_golden  # noqa: E402
import numpy as np  # noqa: E402
import peft  # noqa: E402
import timm  # noqa: E402, F401
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from ppadapt.cli.convert import main as convert  # noqa: E402

GOLDEN = make_golden.OUT
SETTINGS = ("expected.npz", "meta.json", "config.json", "preprocessor_config.json", "open_clip_config.json")
# timm has no network that reads class token and mean, as DINOv2's classifier does; Swin is not one of ours.
LEFT_OUT = ("transformers_dinov2", "swin", "peft", "beit")
ADAPTERS = {"peft_timm": "timm_deit3", "peft_transformers": "transformers_vit"}


def source(case: str) -> Path:
    files = [file for file in (GOLDEN / case).iterdir() if file.name not in SETTINGS]
    return files[0] if len(files) == 1 else GOLDEN / case


def given(case: str) -> dict:
    meta = GOLDEN / case / "meta.json"
    return json.loads(meta.read_text()) if meta.is_file() else {}


def run(*arguments) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = convert([str(argument) for argument in arguments])
    if code:
        raise SystemExit(f"{arguments}: {said.getvalue()[-500:]}")
    return said.getvalue()


def network(said: str, facts: dict) -> torch.nn.Module:
    """timm's network of the line that the tool prints; what it did not know is what the case gives."""
    line = next(line for line in said.splitlines() if line.startswith("timm"))[4:].strip()
    for option, at in (("num_heads", "num_heads"), ("act", "act_layer")):
        if option in facts:
            start = line.find(f"{at}=")
            old = line[start:].split(",")[0].rstrip(")") if start >= 0 else ""
            line = line.replace(old, f"{at}={facts[option]!r}") if old else line
    return eval(line).eval()


def results(model: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    images = torch.from_numpy(np.load(GOLDEN / "images.npy"))
    with torch.no_grad():
        return model.forward_head(model.forward_features(images), pre_logits=True).numpy(), model(images).numpy()


def off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def to_timm(case: str, folder: Path) -> float:
    key = given(case).get("key")
    said = run("--to", "timm", "--input", source(case), "--output", folder / "x.safetensors", *(
        ["--key", key] if key else []))
    model = network(said, given(case).get("given", {}))
    model.load_state_dict(load_file(folder / "x.safetensors"), strict=True)
    features, logits = results(model)
    expected = np.load(GOLDEN / case / "expected.npz")
    if "logits" in expected and logits.shape == expected["logits"].shape:
        return off(logits, expected["logits"])
    return off(features, expected["features"])


def adapter(case: str, base: str, folder: Path) -> dict[str, float]:
    expected = np.load(GOLDEN / case / "expected.npz")["logits"]
    tuned, facts = folder / "tuned.safetensors", given(case).get("given", {})
    run("--input", GOLDEN / case, "--base", source(base), "--output", tuned)
    run("--to", "peft", "--input", tuned, "--base", source(base), "--output", folder / "adapter")
    if base == "timm_deit3":  # with the LayerScale that ours has folded
        plain = make_golden.timm_model("deit3_small_patch16_224", 20)
    else:
        plain = network(run("--to", "timm", "--input", source(base), "--output", folder / "base.safetensors"), facts)
        plain.load_state_dict(load_file(folder / "base.safetensors"))
    by_peft = results(peft.PeftModel.from_pretrained(plain, str(folder / "adapter")).eval().base_model.model)[1]
    said = run("--to", "timm", "--input", tuned, "--base", source(base), "--output", folder / "merged.pth")
    merged = network(said, facts)
    merged.load_state_dict(torch.load(folder / "merged.pth", weights_only=True), strict=True)
    return {"by peft": off(by_peft, expected), "merged, by timm": off(results(merged)[1], expected)}


def main() -> int:
    errors: dict[str, float] = {}
    for case in sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()):
        with tempfile.TemporaryDirectory() as folder:
            if case in ADAPTERS:
                errors.update({f"{case} {how}": error for how, error in adapter(
                    case, ADAPTERS[case], Path(folder)).items()})
            elif not case.startswith(LEFT_OUT) or case == "transformers_dinov2_registers":
                errors[case] = to_timm(case, Path(folder))
    for case, error in errors.items():
        print(f"{case:45} {error:.1e}")
    return sum(not error < 1e-5 for error in errors.values())


if __name__ == "__main__":
    sys.exit(main())
