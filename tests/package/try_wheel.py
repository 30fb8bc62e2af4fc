"""Builds the sdist, the wheel out of the sdist, and uses the wheel as a stranger would: `make wheel-test`.

    python tests/package/try_wheel.py [--dist FOLDER] [--full]

The wheel goes alone into a fresh virtual environment, in a folder far from the checkout. Its dependencies are not
downloaded anew: the environment sees those of the Python that runs this (a .pth file; a path in there takes no part in
editable installs, so that no checkout is seen). With --full pip installs them as well.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["Global.epochs=1", "Global.print_batch_step=1", "DataLoader.Train.dataset.limit=48",
         "DataLoader.Train.sampler.batch_size=16", "DataLoader.Eval.dataset.limit=20", "Optimizer.lr.warmup_epoch=0"]
CONFIG = "digits/vit_micro_adaptformer"


def run(*command: object, cwd: Path, code: int = 0) -> str:
    """What a command prints; it must end with this code, without a traceback."""
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, encoding="utf-8",
                          env={**plain, "PYTHONIOENCODING": "utf-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    said = done.stdout + done.stderr
    assert done.returncode == code and "Traceback" not in said, f"{command}: {done.returncode}\n{said[-3000:]}"
    return said


def build(place: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel built out of it alone; nothing is left in the checkout."""
    source = place / "checkout"
    for name in run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT).split("\0"):
        if (ROOT / name).is_file():  # tracked and not removed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    (place / "dist").mkdir()
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(place / 'dist')!r})",
        cwd=source)
    sdist, = (place / "dist").glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place / "dist", sdist, cwd=place)
    wheel, = (place / "dist").glob("*.whl")
    return sdist, wheel


def check_content(sdist: Path, wheel: Path, version: str) -> None:
    """What belongs into each."""
    assert version in sdist.name and version in wheel.name, (sdist, wheel, version)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "README.md", "README_ch.md", "CHANGELOG.md", "setup.py", "configs/_base_/run.yaml",
              "tools/train.py"}
    assert needed <= inside, needed - inside
    assert not any(name.startswith(("tests/", ".ci")) for name in inside)
    inside = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ppadapt").rglob("*")
               if path.is_file() and "__pycache__" not in path.parts and path.parent.name != ".git"}
    configs = {f"ppadapt/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert modules | configs <= inside, (modules | configs) - inside
    assert any(name.endswith("LICENSE") for name in inside) and "ppadapt/py.typed" in inside
    assert not any(name.startswith(("tests", "tools", "configs")) for name in inside)


def install(wheel: Path, place: Path, full: bool) -> Path:
    """A fresh virtual environment with the wheel; its folder of programs."""
    run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    programs = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "--quiet", *([f"{wheel}[cpu]"] if full else ["--no-deps", wheel]),
        cwd=place)
    if not full:
        packages = run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place)
        Path(packages.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


def use(programs: Path, place: Path, version: str) -> None:
    """From a folder that holds nothing."""
    folder = place / "somewhere else"
    folder.mkdir()
    short = [part for value in SHORT for part in ("-o", value)]

    def ppadapt(*arguments: object, code: int = 0) -> str:
        return run(programs / "ppadapt", *arguments, cwd=folder, code=code)

    python = programs / "python"
    where = run(python, "-c", "import ppadapt; print(ppadapt.__file__)", cwd=folder)
    assert str(place / "venv") in where, f"another ppadapt is used: {where}"
    assert ppadapt("--version") == f"ppadapt {version}\n" == run(python, "-m", "ppadapt", "--version", cwd=folder)
    assert CONFIG in ppadapt("configs") and "usage: ppadapt convert" in ppadapt("convert", "--help")
    said = ppadapt("train", "-c", CONFIG, *short, "-o", "Global.output_dir=out")
    assert f"config {CONFIG}: " in said and f"which ships with ppadapt {version}" in said, said
    tuned, = folder.glob("out/digits-vit_micro_adaptformer/*/best_model.safetensors")
    said = ppadapt("eval", "-c", f"configs/{CONFIG}.yaml", *short, "-o", f"Global.pretrained_model={tuned}")
    assert "[Eval][Avg]" in said, said
    ppadapt("export", "-c", CONFIG, "-o", f"Global.pretrained_model={tuned}", "--output", "inference")
    run(python, "-c", "from PIL import Image; Image.new('L', (8, 8), 99).save('a.png')", cwd=folder)
    said = ppadapt("infer", "--exported", "inference", "-o", "Infer.infer_imgs=a.png")
    assert "a.png: " in said and "%" in said, said
    assert "Did you mean 'digits/vit_micro_vpt'?" in ppadapt("train", "-c", "digits/vit_micro_vtp", code=1)
    assert "Did you mean 'train'?" in ppadapt("trian", code=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, metavar="FOLDER", help="keep the sdist and the wheel there")
    parser.add_argument("--full", action="store_true", help="let pip install the dependencies, Paddle too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ppadapt-wheel-") as temporary:
        place = Path(temporary).resolve()
        version = run(sys.executable, "-c", "from ppadapt.version import __version__; print(__version__)",
                      cwd=ROOT).strip()
        sdist, wheel = build(place)
        check_content(sdist, wheel, version)
        use(install(wheel, place, args.full), place, version)
        print(f"{sdist.name} ({sdist.stat().st_size / 1e6:.1f} MB) and {wheel.name} "
              f"({wheel.stat().st_size / 1e6:.1f} MB) are whole, and the wheel works in a fresh virtual environment"
              + " that borrows its dependencies" * (not args.full))
        if args.dist:
            args.dist.mkdir(parents=True, exist_ok=True)
            for made in (sdist, wheel):
                (args.dist / made.name).write_bytes(made.read_bytes())


if __name__ == "__main__":
    main()
