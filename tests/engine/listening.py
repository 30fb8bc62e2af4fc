"""Programs that tests send signals to."""
import signal
import subprocess


def start(command, **options) -> subprocess.Popen:
    """Start a program that hears what it is sent, also where the tests were started with SIGHUP or SIGINT ignored (by
    `nohup`, in the background of a shell): that is inherited, and what is ignored stays ignored.
    """
    return subprocess.Popen(command, preexec_fn=_hear, **options)


def _hear() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
