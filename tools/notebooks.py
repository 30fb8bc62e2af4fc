"""Runs the notebooks as a reader does: a kernel each, cell by cell.

    python tools/notebooks.py                          # all of them, and what they show is written into them
    python tools/notebooks.py quickstart               # one
    python tools/notebooks.py --check                  # small settings in the parameter cell; nothing is written
    python tools/notebooks.py --folder output/runs     # called again, it goes on with what was trained there

It takes nbclient and ipykernel (the extra `test`). CIFAR is taken from PPADAPT_DATA; where there is none, a notebook
says so and goes on with what scikit-learn has.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
# What comes after the cell of parameters in --check: all else is as it is for a reader.
SMALL = {
    "quickstart": "EPOCHS, IMAGES, SECOND_EPOCHS = 1, 96, 1",
    "cifar100_to_cifar10": "FROZEN_EPOCHS = UNFROZEN_EPOCHS = 1; TRAIN_IMAGES, TEST_IMAGES = 96, 60",
    "mae_vit_base_cifar100": "EPOCHS, WARMUP = 1, 0; TRAIN_IMAGES, TEST_IMAGES = 192, 60",
    "your_own_images": "EPOCHS, METHODS, RATES = 1, ['linear', 'adaptformer'], [2e-3]; PER_CLASS = 20",
    "many_labels": "EPOCHS, TRAIN_MOSAICS, TEST_MOSAICS = 1, 64, 24",
}


def run(name: str, small: bool, folder: Path):
    """The notebook, executed in a folder; what its cells show is in it.

    Raises:
        nbclient.exceptions.CellExecutionError: with the cell and what it raised.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if small:
        at = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(SMALL[name]))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    NotebookClient(notebook, timeout=3600, kernel_name="python3",
                   resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def tidy(notebook, places: dict[str, str]) -> None:
    """What is committed of a run: no bars, no warnings of libraries, no folders of this machine, no times."""
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                continue
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                continue
            if "execution_count" in output:
                output.execution_count = number
            if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text  # a bar's next state begins with what takes its last one away
            else:
                kept.append(output)
        for output in kept:
            if output.output_type == "stream":
                output.text = _shown(output.text, places)
        cell.outputs = [output for output in kept if output.get("text") != ""]
    notebook.metadata.pop("widgets", None)


def _shown(text: str, places: dict[str, str]) -> str:
    for place, said in places.items():
        text = text.replace(place, said)
    text = re.sub(r"[^\n]*\r(?!\n)", "", text)  # what a bar has overwritten
    return re.sub(r"^\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\] ", "", text, flags=re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SMALL)} (all)")
    parser.add_argument("--check", action="store_true", help="small settings, and nothing is written")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where they run (a new one, removed afterwards)")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in SMALL]
    if unknown:
        parser.error(f"there is no notebook {', '.join(unknown)}: choose from {', '.join(SMALL)}")
    import nbformat

    for name in args.names or SMALL:
        start = time.perf_counter()
        with contextlib.ExitStack() as at_the_end:
            folder = args.folder.resolve() / name if args.folder else Path(
                at_the_end.enter_context(tempfile.TemporaryDirectory(prefix="notebook-")))
            folder.mkdir(parents=True, exist_ok=True)
            notebook = run(name, args.check, folder)
        if not args.check:
            data = os.environ.get("PPADAPT_DATA", "")
            tidy(notebook, {str(folder): ".", **({data: "data"} if data else {}), str(ROOT): "..",
                            str(Path.home()): "~"})
            nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
