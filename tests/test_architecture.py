"""Imports point one way: tools -> experiment, build -> the parts, which do not know each other."""
import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ppadapt"
EVERYWHERE = {"cpu", "errors"}
ALLOWED = {"models": set(), "weights": set(), "data": set(), "engine": set(), "tuning": {"models", "weights"},
           "deploy": {"data", "engine", "models", "tuning", "weights"}}


def imports(path):
    """Parts of ppadapt that a module imports, whether relatively or by name."""
    parts = path.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[:-1])[:len(parts) - node.level] + (node.module.split(".") if node.module else [])
            yield from [base[0]] if base else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ppadapt":
            yield from node.module.split(".")[1:2] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("ppadapt."))


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_parts_import_only_what_they_may(part):
    for path in (PACKAGE / part).rglob("*.py"):
        extra = set(imports(path)) - {part} - EVERYWHERE - ALLOWED[part]
        assert not extra, f"{path} imports {extra}"


def test_the_tools_and_the_package_need_no_torch():
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tools").glob("*.py")]:
        roots = {alias.name.split(".")[0] for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                 if isinstance(node, ast.Import) for alias in node.names}
        roots |= {(node.module or "").split(".")[0] for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                  if isinstance(node, ast.ImportFrom) and not node.level}
        assert "torch" not in roots, path


def test_weights_are_numpy_only():
    for path in (PACKAGE / "weights").glob("*.py"):
        assert "import paddle" not in path.read_text(encoding="utf-8"), path
