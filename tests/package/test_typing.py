"""The public API as type checkers see it: the stub names what there is, and mypy (mypy.ini) finds nothing."""
import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import ppadapt

ROOT = Path(__file__).resolve().parents[2]


def test_the_stub_names_what_there_is():
    tree = ast.parse((ROOT / "ppadapt" / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    named = {alias.asname or alias.name for node in imported for alias in node.names}
    assert "*" in named and {*named - {"*"}, *ppadapt.METHODS} == set(ppadapt.__all__)
    for node in imported:
        for alias in node.names:
            if alias.name != "*":
                module = importlib.import_module(f".{node.module}", "ppadapt")
                assert getattr(ppadapt, alias.name) is getattr(module, alias.name), alias.name
    assert (ROOT / "ppadapt" / "py.typed").is_file()


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed: pip install '.[test]'")
def test_mypy_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "mypy", "--no-incremental"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
