"""The commands: `ppadapt train ...`, `python -m ppadapt train ...` and `python tools/train.py ...` are the same code.

A command is the module of its name in this folder: its docstring is what it does, `main(arguments)` does it and may
return an exit code, `SHARED` says that processes of paddle.distributed.launch share its work, `LOG_ANSWERS` that its
log is its answer. What the other commands answer is on stdout and their log on stderr. Nothing of Paddle is imported
before the arguments are read, so that `--help` is quick.
"""
from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Optional, Sequence

from .. import log
from ..errors import choose
from ..version import __version__
from .common import guarded

# Name -> what `ppadapt --help` says, which imports none of them.
COMMANDS = {
    "train": "train a tuning method on a frozen network",
    "eval": "evaluate a tuned network on the test data of a config",
    "infer": "answers for images: class names and probabilities",
    "compare": "train several methods on the same data and draw one table",
    "curves": "draw the curves of runs as a picture",
    "explain": "draw what tuning changed: attention, branches, features",
    "export": "export a tuned network for serving, and check that it answers the same",
    "convert": "convert published checkpoints, and tuned files back to PyTorch",
    "configs": "list the configs that ship, or show one",
    "demo": "adapt the small network that ships to handwritten digits, in three minutes",
    "mosaics": "make the images of the configs mosaic/...",
}


def run(command: str, arguments: Optional[Sequence[str]] = None) -> None:
    """Call a command. A user's mistake ends in one line and exit code 1, Ctrl-C in exit code 130.

    Args:
        arguments: those after the command's name; None: those of this process, whose only command it is.
    """
    module = importlib.import_module(f".{command}", __name__)
    arguments = sys.argv[1:] if arguments is None else arguments
    with contextlib.nullcontext() if getattr(module, "LOG_ANSWERS", False) else log.beside_answers():
        guarded(lambda: module.main(list(arguments)), getattr(module, "SHARED", False))


def main() -> None:
    """The console script `ppadapt`: what follows it names the command."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help"):
        print(_help())
    elif given[0] in ("-V", "--version"):
        print(f"ppadapt {__version__}")
    elif given[0] not in COMMANDS:
        guarded(lambda: None)  # what cannot be shown of the name is escaped
        print(f"error: {choose('command', given[0], COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    else:
        run(given[0], given[1:])


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return ("usage: ppadapt COMMAND ...     (ppadapt COMMAND --help: its options and examples)\n\n"
            "AdaptFormer for PaddlePaddle: many tasks on one frozen vision transformer.\n\n"
            f"commands:\n{commands}\n\n"
            "  --version  say which version this is\n\n"
            "first steps:\n  ppadapt demo\n  ppadapt configs\n  ppadapt train -c digits/vit_micro_adaptformer")
