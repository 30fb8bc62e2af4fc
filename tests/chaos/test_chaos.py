"""Short forms of `make kills` and `make long-run`."""
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def run(script, *arguments):
    done = subprocess.run([sys.executable, "-W", "ignore", str(HERE / script), *arguments], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="copies processes")
@pytest.mark.needs_paddle("random state of a CPU")
def test_runs_that_are_killed_at_random_end_as_those_that_were_not():
    assert ": 0 differences" in run("kills.py", "--kills", "5")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_grows_in_nothing_and_leaves_nothing(workers):
    """A short one is allowed more: what is taken once weighs more in it."""
    said = run("long_run.py", "--steps", "120", "--evaluations", "6", "--from-step", "60", "--most", "0.05",
               "--workers", workers)
    assert f"120 steps, 6 evaluations, {workers} workers" in said
    assert "left: 0 descriptors, 0 processes, 0 shared, 0 hidden files" in said
