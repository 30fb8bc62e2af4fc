"""What the tools share: importing from a checkout, and a user's mistake in one line instead of a traceback."""
from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# Paddle looks for ccache at every import, though only building extensions would need it.
warnings.filterwarnings("ignore", message="No ccache found")


def config_parser(description: str, examples: str, required: bool = True) -> argparse.ArgumentParser:
    """A parser with -c and -o, as PaddleClas's tools have them."""
    parser = argparse.ArgumentParser(description=description, epilog="examples:\n" + examples,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=required, metavar="FILE",
                        help="YAML config, such as those in configs/")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="A.b=c",
                        help="change one value of the config; may be given many times")
    return parser


def serving_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """The same for tools that only compute answers: a backend may be chosen, or an exported folder given."""
    parser = config_parser(description, examples, required=False)
    parser.add_argument("--exported", type=Path, metavar="FOLDER", help="a folder of tools/export_model.py, in the "
                        "place of -c: it knows its config, preprocessing and classes")
    parser.add_argument("--backend", help="dygraph (the default), paddle_inference or onnx; without --exported, the "
                        "network is exported for this call")
    parser.add_argument("--precision", default="float32", help="of paddle_inference: float32 (the default), bfloat16, "
                        "or on a GPU float16")
    return parser


def serving_options(args: argparse.Namespace) -> dict:
    """What `experiment.infer` and `experiment.evaluate` take, from the arguments of `serving_parser`."""
    from ppadapt import config
    from ppadapt.errors import UserError

    if not (args.config or args.exported):
        raise UserError("give a config with -c, or an exported folder with --exported")
    if args.exported and not args.exported.is_dir():
        raise UserError(f"--exported {args.exported} is no folder: give one that tools/export_model.py made")
    return {"config": config.load(args.config or args.exported / "config.yaml", args.override),
            "backend": args.backend, "precision": args.precision, "exported": args.exported}


def run(main: Callable[[], None], shared: bool = False) -> None:
    """Call a tool. A user's mistake ends in one line and exit code 1; Ctrl-C in exit code 130.

    Args:
        shared: whether processes that paddle.distributed.launch starts together share the tool's work.
    """
    from ppadapt.errors import UserError, printable

    _speak_utf8()
    try:
        os.getcwd()
        together = os.environ.get("PADDLE_TRAINERS_NUM", "1")
        if not shared and together != "1":
            raise UserError(f"paddle.distributed.launch started {together} processes, and each would do all of this "
                            "tool's work: start it with python alone. tools/train.py and tools/eval.py share theirs")
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:  # or SIGTERM, SIGHUP, where a run was saved before it stopped
        sys.exit(128 + getattr(stop, "signal", 2))
    except BrokenPipeError:  # `| head` has seen enough
        _drop_output()
        sys.exit(141)
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            _drop_output()
            sys.exit("error: the output, or a file that was being written, finds no space left on its device")
        if not _in_a_folder():
            sys.exit("error: the current folder does not exist any more: cd to one that does")
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS):
            raise
        sys.exit(f"error: {printable(error)}: make room, or choose another place for the files")


def _speak_utf8() -> None:
    """Names of files are bytes to the system and UTF-8 to us, whatever the console shows; what it cannot is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    ours = Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parent
    if sys.getfilesystemencoding().lower() != "utf-8" and ours:
        shown = f"{sys.stdout.encoding}:backslashreplace"
        os.environ.setdefault("PYTHONIOENCODING", shown)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.argv])


def _in_a_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _drop_output() -> None:
    """What is still to be written would fail once more when Python ends."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
