"""Imports point one way: tools -> experiment, build -> the parts, which do not know each other."""
import ast
from pathlib import Path

import paddle
from paddle import nn

PACKAGE = Path(__file__).resolve().parent.parent / "ppadapt"
GROUND = {"errors", "cpu", "files", "limits", "log", "options", "paddle_compat", "pickles", "ranges", "version"}
# Room (a folder or a file of the package) -> the rooms it may import, beside the ground floor.
ALLOWED = {
    **{room: set() for room in ("models", "weights", "data", "engine", "tasks")},
    "config": {"build"},  # asked, inside one function, what a name takes that was put in the place of another
    "tuning": {"models", "weights"},
    "networks": {"models", "weights"},
    "manifests": {"config", "data", "models", "tasks", "tuning", "weights"},
    "build": {"config", "data", "engine", "manifests", "models", "networks", "tasks", "tuning", "weights"},
    "serve": {"build", "config", "data", "engine", "models", "tasks", "tuning"},
    "runs": {"build", "config", "data", "engine", "networks", "serve", "tasks", "tuning", "weights"},
    "errors": set(), "cpu": set(), "paddle_compat": set(), "version": set(), "files": {"errors"}, "log": {"errors"},
    "limits": {"errors"}, "pickles": {"errors", "limits"}, "ranges": set(), "options": {"errors", "ranges"},
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


def test_the_tools_and_the_package_need_no_torch():
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tools").glob("*.py")]:
        roots = {alias.name.split(".")[0] for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                 if isinstance(node, ast.Import) for alias in node.names}
        roots |= {(node.module or "").split(".")[0] for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                  if isinstance(node, ast.ImportFrom) and not node.level}
        assert "torch" not in roots, path


def test_weights_are_numpy_only():
    for path in (PACKAGE / "weights").rglob("*.py"):
        assert "import paddle" not in path.read_text(encoding="utf-8"), path
