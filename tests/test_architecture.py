"""Imports point one way: tools -> runs, serve -> build -> the parts, which do not know each other."""
import ast
import sys
from pathlib import Path

import paddle
from paddle import nn

PACKAGE = Path(__file__).resolve().parent.parent / "ppadapt"
GROUND = {"errors", "cpu", "files", "half", "limits", "log", "options", "paddle_compat", "pickles", "ranges",
          "resampling", "version"}
# Room (a folder or a file of the package) -> the rooms it may import, beside the ground floor.
ALLOWED = {
    **{room: set() for room in ("models", "weights", "data", "engine", "tasks")},
    "config": {"build"},  # asked, inside one function, what a name takes that was put in the place of another
    "tuning": {"models", "weights"},
    "networks": {"models", "weights"},
    "build": {"config", "data", "engine", "models", "networks", "tasks", "tuning", "weights"},
    "serve": {"build", "config", "data", "engine", "models", "tasks", "tuning", "weights"},
    # The commands: each imports what it does where it does it.
    "cli": {"config", "data", "runs", "serve", "weights"}, "__main__": {"cli"}, "notebook": {"config", "runs"},
    "runs": {"build", "config", "data", "engine", "models", "networks", "serve", "tasks", "tuning", "weights"},
    "errors": set(), "cpu": set(), "half": set(), "paddle_compat": set(), "version": set(),
    "files": {"errors"}, "log": {"errors"}, "limits": {"errors"}, "pickles": {"errors", "limits"}, "ranges": set(),
    "resampling": set(), "options": {"errors", "ranges"},
    "__init__": {"cpu", "version"},
}


def imports(path):
    """Rooms of ppadapt that a module imports, whether relatively or by name."""
    parts = path.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[:-1])[:len(parts) - node.level] + (node.module.split(".") if node.module else [])
            yield from [base[0]] if base else [_room(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ppadapt":
            yield from node.module.split(".")[1:2] or [_room(alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("ppadapt."))


def _room(name):
    return name if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file() else "__init__"


def test_every_file_is_in_a_room_and_imports_only_what_it_may():
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert room in ALLOWED, f"{path}: say in ALLOWED what the room {room!r} may import"
        extra = set(imports(path)) - {room} - ALLOWED[room] - (GROUND if room not in GROUND else set())
        assert not extra, f"{path} imports {extra}"


def test_what_is_private_to_paddle_stands_in_one_file():
    things = (nn.LayerNorm(2), nn.BatchNorm1D(2), nn.Linear(2, 2), nn.Conv2D(2, 2, 1), paddle.ones([1]),
              paddle.optimizer.SGD(parameters=[paddle.create_parameter([1], "float32")]))
    private = {name for thing in things for name in dir(thing) if name.startswith("_") and not name.endswith("__")}
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        own = {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        used = {node.attr for node in attributes if node.attr in private - own}
        used |= {ast.unparse(node) for node in attributes if ast.unparse(node) in ("paddle.base", "paddle.pir_utils")}
        used |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)
                 and (node.module or "").startswith("paddle.base")}
        assert not used or path.name == "paddle_compat.py", f"{path}: ask paddle_compat for {used}, Paddle's own"


def outside(path):
    """What a module imports from outside of the package, by the name that is installed; `import_module` too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module",
                                                                       "__import__"):
            yield from (text.value.split(".")[0] for text in node.args[:1] if isinstance(text, ast.Constant))


def test_imports_are_seen_however_they_are_written(tmp_path):
    """`from paddle import nn` was not, where the text "import paddle" was looked for."""
    file = tmp_path / "a.py"
    for text in ("from paddle import nn", "from paddle.nn import functional as F", "import paddle.nn as nn",
                 "def f():\n    import paddle", "import importlib\nimportlib.import_module('paddle.nn')"):
        file.write_text(text + "\n", encoding="utf-8")
        assert "paddle" in set(outside(file)), text


def test_the_tools_and_the_package_need_no_torch():
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tools").glob("*.py")]:
        assert "torch" not in set(outside(path)), path


# Rooms that work without Paddle: the converter runs where it is not installed.
WITHOUT_PADDLE = {"weights", "errors", "files", "limits", "options", "pickles", "ranges", "resampling", "version"}


def test_weights_are_numpy_only():
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in WITHOUT_PADDLE:
            continue
        assert set(imports(path)) <= WITHOUT_PADDLE, f"{path} imports {set(imports(path)) - WITHOUT_PADDLE}"
        if sys.version_info >= (3, 10):
            installed = set(outside(path)) - set(sys.stdlib_module_names) - {"__future__"}
            assert installed <= {"numpy"}, f"{path} imports {installed}"


def test_paddleclas_is_imported_in_one_place():
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "models" / "paddleclas" / "zoo.py":
            assert not set(outside(path)) & {"paddleclas", "ppcls"}, path
