"""What the commands share: their parsers, and a user's mistake in one line instead of a traceback."""
from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Optional


def parser(command: str, description: Optional[str], examples: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    return argparse.ArgumentParser(prog=f"ppadapt {command}", description=description, epilog="examples:\n" + examples,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def config_parser(command: str, description: Optional[str], examples: str,
                  required: bool = True) -> argparse.ArgumentParser:
    """A parser with -c and -o, as PaddleClas's tools have them."""
    made = parser(command, description, examples)
    made.add_argument("-c", "--config", required=required, metavar="FILE",
                      help="YAML config: a path, or one that ships (`ppadapt configs` lists them)")
    made.add_argument("-o", "--override", action="append", default=[], metavar="A.b=c",
                      help="change one value of the config; may be given many times")
    return made


def serving_parser(command: str, description: Optional[str], examples: str) -> argparse.ArgumentParser:
    """The same for commands that only compute answers: a backend may be chosen, or an exported folder given."""
    made = config_parser(command, description, examples, required=False)
    made.add_argument("--tuned", type=Path, metavar="FILE", help="a tuned file, beside -c or in its place: then with "
                      "the config of its run, or, where that does not lie beside it, with what the file says and -o "
                      "adds")
    made.add_argument("--exported", type=Path, metavar="FOLDER", help="a folder of `ppadapt export`, in the place of "
                      "-c: it knows its config, preprocessing and classes")
    made.add_argument("--backend", help="dygraph (the default), paddle_inference, onnx or openvino; without "
                      "--exported, the network is exported for this call")
    made.add_argument("--precision", default="float32", help="of paddle_inference and openvino: float32 (the "
                      "default), bfloat16, or on a GPU float16")
    return made


def serving_options(args: argparse.Namespace) -> dict:
    """What `experiment.infer` and `experiment.evaluate` take, from the arguments of `serving_parser`."""
    from .. import config
    from ..errors import UserError

    if not (args.config or args.exported or args.tuned):
        raise UserError("give a config with -c, a tuned file with --tuned, or an exported folder with --exported")
    if args.exported and args.tuned:
        raise UserError("--exported is a whole network and --tuned a tuned file: give one of them")
    if args.exported and not args.exported.is_dir():
        raise UserError(f"--exported {args.exported} is no folder: give one that `ppadapt export` made")
    if args.tuned and not args.config:
        from ..runs.alone import config_of

        plan = config_of(args.tuned, args.override)
    else:
        tuned = [f"Global.pretrained_model={args.tuned}"] if args.tuned else []
        plan = config.load(args.config or args.exported / "config.yaml", [*args.override, *tuned])
    return {"config": plan, "backend": args.backend, "precision": args.precision, "exported": args.exported}


def guarded(main: Callable[[], Any], shared: bool = False) -> None:
    """Call a command. A user's mistake ends in one line and exit code 1; Ctrl-C in exit code 130, SIGTERM in 143.

    Args:
        main: may return an exit code.
        shared: whether processes that paddle.distributed.launch starts together share the work.
    """
    from ..errors import UserError, printable

    _open_what_is_closed()
    _speak_utf8()
    _end_quietly()
    try:
        os.getcwd()
        together = os.environ.get("PADDLE_TRAINERS_NUM", "1")
        if not shared and together != "1":
            raise UserError(f"paddle.distributed.launch started {together} processes, and each would do all of this "
                            "command's work: start it alone. train and eval share theirs")
        code = main()
        sys.stdout.flush()
        if code:
            sys.exit(code)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:  # or SIGTERM, SIGHUP
        for number in (signal.SIGINT, signal.SIGTERM):  # one more, while Python ends, does so without a traceback
            if signal.getsignal(number) in (signal.default_int_handler, _ended):
                signal.signal(number, signal.SIG_DFL)
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
        cache = os.path.join(os.path.expanduser("~"), ".cache")
        if error.filename in (cache, os.path.join(cache, "paddle")):  # made when Paddle is imported
            sys.exit(f"error: Paddle cannot make its folder {printable(error.filename)} ({error.strerror}): set HOME "
                     "to a folder that can be written")
        if error.errno in (errno.EACCES, errno.EPERM):
            sys.exit(f"error: {printable(error)}: change its permissions, or choose another place")
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS):
            raise
        sys.exit(f"error: {printable(error)}: make room, or choose another place for the files")


class _Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a command as Ctrl-C does: what is half written goes."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


def _ended(number: int, frame: Any) -> None:
    raise _Ended(number)


def _end_quietly() -> None:
    """Signals that are not ignored, as SIGHUP is under nohup, raise _Ended; training, once it runs, saves for them."""
    for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
        if signal.getsignal(number) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(number, _ended)


def _open_what_is_closed() -> None:
    """Standard streams that were closed (`>&-`) lead nowhere: else the next file that is opened takes their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")


def _speak_utf8() -> None:
    """Names of files are bytes to the system and UTF-8 to us, whatever the console shows; what it cannot is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    again = _started_by()
    if sys.getfilesystemencoding().lower() != "utf-8" and again:
        shown = f"{sys.stdout.encoding}:backslashreplace"
        os.environ.setdefault("PYTHONIOENCODING", shown)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *again, *sys.argv[1:]])


def _started_by() -> list[str]:
    """What Python was told to run, where that is one of our commands; [] where another program calls them."""
    script = Path(sys.argv[0]).resolve()
    if script.name == "__main__.py" and script.parent.name == "ppadapt":
        return ["-m", "ppadapt"]
    in_checkout = script.parent.name == "tools" and (script.parent / "_run.py").is_file()
    return [str(script)] if script.name == "ppadapt" or in_checkout else []


def _in_a_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _drop_output() -> None:
    """What is still to be written would fail once more when Python ends."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
