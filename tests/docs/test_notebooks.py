"""The notebooks as they are committed; `tools/notebooks.py --check` (of .ci/run) runs their cells."""
from __future__ import annotations

import ast
import base64
import io
import json
import re
import subprocess
import sys
import zipfile

import pytest
from PIL import Image
from test_docs import ROOT, tool

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def read(name):
    return json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def code(name):
    return [cell for cell in read(name)["cells"] if cell["cell_type"] == "code"]


def test_all_that_there_are_are_run_in_ci():
    assert list(tool("notebooks").SMALL) and set(tool("notebooks").SMALL) == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_chinese_comes_first_and_english_stands_below_each_heading(name):
    headings = [source(cell) for cell in read(name)["cells"]
                if cell["cell_type"] == "markdown" and source(cell).startswith("#")]
    for text in headings:
        first, second = re.findall(r"^#+ .*$", text, re.MULTILINE)
        assert CHINESE.search(first) and not CHINESE.search(second), text
        assert first.split()[0] == second.split()[0], text
        assert not CHINESE.search(text[text.index(second):]), text


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_one_cell_of_parameters_that_small_settings_replace(name):
    cells = code(name)
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1

    def names(text):
        return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)
                and isinstance(node.ctx, ast.Store)}

    assert names(tool("notebooks").SMALL[name]) <= names(source(tagged[0]))
    assert source(cells[0]) == source(code("quickstart")[0])  # the first cell is the same in all


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_shown_is_small_whole_and_of_no_machine(name):
    assert NOTEBOOKS[name].stat().st_size < 700_000
    cells = code(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run it from top to bottom"
    pictures = 0
    for cell in cells:
        for output in cell["outputs"]:
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            shown = json.dumps({key: value for key, value in output.get("data", {"text": output.get("text")}).items()
                                if key != "image/png"}, ensure_ascii=False)
            assert not re.search(r"/(work|root|tmp|home/(?!aistudio))\b", shown), shown[:300]
            assert len(shown) < 12_000, f"a cell prints {len(shown)} letters"
            assert not re.search(r"(trained|done) before|\d+%\|| WARNING: Tuning", shown), "run it anew, whole"
            if "image/png" in output.get("data", {}):
                picture = Image.open(io.BytesIO(base64.b64decode("".join(output["data"]["image/png"]))))
                picture.load()
                assert len(picture.convert("L").getcolors(1 << 16) or "many") > 4, "an empty picture"
                pictures += 1
    assert pictures or name in ("cifar100_to_cifar10", "mae_vit_base_cifar100")  # these show tables and text


def test_the_first_cell_installs_a_wheel_where_it_lasts(tmp_path):
    """On AI Studio, where ppadapt is not there yet and its wheel lies beside the notebook; pip is not called."""
    wheel = tmp_path / "ppadapt-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("ppadapt/__init__.py", "")
        archive.writestr("ppadapt/notebook.py", "import sys\nclass Here:\n    def install(self, wheel):\n"
                                                f"        sys.path.append({str(tmp_path / 'lasting')!r})\n"
                                                "        open('installed', 'w').write(wheel)\n"
                                                "def here():\n    return Here()\n")
    installed = tmp_path / "lasting" / "ppadapt"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    (installed / "notebook.py").write_text("def setup():\n    return 'the installed one'\n")
    (tmp_path / "notebooks").mkdir()
    cell = source(code("quickstart")[0]).replace("%matplotlib inline", "print(here, sys.path)")

    def run():
        # Neither our checkout nor what is installed for Python is seen: -I leaves out PYTHONPATH, -S the packages.
        return subprocess.run([sys.executable, "-I", "-S", "-X", "utf8", "-c", cell], cwd=tmp_path / "notebooks",
                              capture_output=True, text=True, encoding="utf-8", timeout=60)

    assert "put ppadapt-*.whl beside this notebook" in run().stderr  # nobody has put it there yet
    wheel.rename(tmp_path / "notebooks" / wheel.name)
    done = run()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "notebooks" / "installed").read_text() == wheel.name
    assert done.stdout.startswith("the installed one [") and wheel.name not in done.stdout


def test_what_is_committed_of_an_output_has_no_bars_no_times_and_no_folders_of_a_machine():
    nbformat = pytest.importorskip("nbformat")
    said = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in (
        ("stdout", "\repoch 1/2:   0%|"), ("stderr", "W1126 of a library"), ("stdout", "\repoch 1/2: 100%|"),
        ("stdout", "\r               \r"), ("stdout", "[2026/11/26 22:10:58] ppadapt INFO: in /a/b/output\n"))]
    widget = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})
    cell = nbformat.v4.new_code_cell("train()", outputs=[*said, widget], metadata={"tags": ["x"], "execution": {}})
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}})
    tool("notebooks").tidy(book, {"/a/b": "."})
    assert [output["text"] for output in cell.outputs] == ["ppadapt INFO: in ./output\n"]
    assert cell.metadata == {"tags": ["x"]} and "widgets" not in book.metadata
