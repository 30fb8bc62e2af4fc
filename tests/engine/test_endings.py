"""How runs end that are asked to, or killed: saved, in a few words, with the right exit code, and with nothing left."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import listening
import pytest
import yaml
from test_training import plan

from ppadapt.engine import checkpoint

ROOT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")


# A tool with something in it changed, before it begins.
CHANGED = ("import runpy, sys, time; from pathlib import Path; tools = Path(sys.argv[1]).parent; "
           "sys.path[:0] = [str(tools), str(tools.parent)]; {}; "
           "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")


STARTED = []


@pytest.fixture(autouse=True)
def nothing_runs_on():
    yield
    for process in STARTED:
        if process.poll() is None:  # the test failed
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    STARTED.clear()


class Tool:
    """A tool that runs, and what it has said."""

    def __init__(self, tmp_path, made, *command, tool="train.py", env=None):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / "run.yaml").write_text(yaml.safe_dump(made.to_dict()), encoding="utf-8")
        self.log = tmp_path / "log"
        with open(self.log, "wb") as log:
            self.process = listening.start(
                [sys.executable, *command, str(ROOT / "tools" / tool), "-c", str(tmp_path / "a" / "run.yaml")],
                stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, **(env or {})}, start_new_session=True)
        STARTED.append(self.process)

    def said(self):
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, text, seconds=120):
        until = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None and time.monotonic() < until, self.said()[-3000:]
            time.sleep(0.05)

    def children(self):
        """Processes that it has started, and theirs."""
        found, new = [], [self.process.pid]
        while new:
            done = subprocess.run(["ps", "-o", "pid=", "--ppid", ",".join(map(str, new))], capture_output=True,
                                  text=True)
            new = [int(pid) for pid in done.stdout.split()]
            found += new
        return found


def endless(tmp_path, workers=0, **sections):
    made = plan(tmp_path, Global__epochs=500, Global__print_batch_step=1, **sections)
    made.DataLoader.Eval.dataset["limit"] = 4
    made.DataLoader.Train.loader.num_workers = workers
    return made


def shared_files():
    return {path.name for path in SHM.iterdir()} if SHM.is_dir() else set()


def alive(pids):
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(pid)
    return found


def all_end(pids, seconds):
    until = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc and /dev/shm")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGTERM twice"])
def test_workers_end_with_their_parent_and_leave_nothing(tmp_path, how):
    before = shared_files()
    tool = Tool(tmp_path, endless(tmp_path, workers=2))
    tool.wait_for("Epoch 2/")
    workers = tool.children()
    while len(workers) < 2:  # between two epochs
        workers = tool.children()
    tool.process.send_signal(getattr(signal, how[:7]))
    if "twice" in how:
        tool.wait_for("stopping after this step")
        tool.process.send_signal(signal.SIGTERM)
    tool.process.wait(60)
    assert all_end(workers, 2), f"workers {alive(workers)} live on"
    ours = {name for name in shared_files() - before if not name.startswith("ppadapt-fuzz")}
    assert not {name for name in ours if any(str(pid) in name for pid in (tool.process.pid, *workers))}, ours


@pytest.mark.skipif(sys.platform != "linux", reason="asks ps")
def test_a_signal_to_the_whole_group_lets_the_workers_finish_the_step(tmp_path):
    """As Ctrl-C in a terminal, and paddle.distributed.launch, send it."""
    tool = Tool(tmp_path, endless(tmp_path, workers=2))
    tool.wait_for("Epoch 2/")
    os.killpg(tool.process.pid, signal.SIGTERM)
    assert tool.process.wait(60) == 143
    assert "stopped by SIGTERM. Go on with -o Global.checkpoints=" in tool.said() and "Traceback" not in tool.said()


def test_what_is_ignored_stays_ignored(tmp_path):
    """nohup: the terminal goes, training goes on."""
    made = endless(tmp_path)
    made.Global.epochs = 6
    tool = Tool(tmp_path, made, "-c", "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
                                      "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
    tool.wait_for("Epoch 1/")
    tool.process.send_signal(signal.SIGHUP)
    assert tool.process.wait(120) == 0 and "Epoch 6/6" in tool.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_features_are_computed(tmp_path, number):
    """They are of all images: the batch is finished, not the pass."""
    made = endless(tmp_path, Tuning={"name": "LinearProbe"}, Global__feature_cache=str(tmp_path / "cache"))
    made.DataLoader.Train.dataset.update(limit=None, transform_ops=made.DataLoader.Eval.dataset["transform_ops"])
    made.DataLoader.Eval.sampler.batch_size = 1
    tool = Tool(tmp_path, made, "-c", CHANGED.format(
        "from ppadapt.models.vit import VisionTransformer as V; real = V.forward; "
        "V.forward = lambda self, x: (print('a pass', flush=True), time.sleep(0.05), real(self, x))[2]"))
    tool.wait_for("a pass\na pass\na pass")
    tool.process.send_signal(number)
    asked = time.monotonic()
    assert tool.process.wait(60) == 128 + number
    assert time.monotonic() - asked < 20, "1,297 images of 0.05 s take a minute"
    assert f"stopped by {number.name}. Go on with" in tool.said() and "Traceback" not in tool.said()
    assert not list((tmp_path / "cache" / "features").iterdir())
    assert checkpoint.is_whole(next((tmp_path / "out").glob("*/*/ckpt/step-000000")))


def test_a_signal_before_training_ends_in_a_few_words(tmp_path):
    """While weights and data are read; Paddle would print a C++ traceback."""
    tool = Tool(tmp_path, endless(tmp_path), "-c", CHANGED.format(
        "from ppadapt.cli import train; import sys; hooked = []; "
        "sys.meta_path.insert(0, type('AfterPaddle', (), {{'find_spec': staticmethod(lambda name, *_: "
        "(print('reading', flush=True), time.sleep(60)) if name == 'ppadapt.engine.loop' else None)}}))".replace(
            "{{", "{").replace("}}", "}")))
    tool.wait_for("reading")
    tool.process.send_signal(signal.SIGTERM)
    assert tool.process.wait(60) == 143 and "Traceback" not in tool.said()


def test_a_signal_to_the_launcher_of_two_processes(tmp_path):
    tool = Tool(tmp_path, endless(tmp_path, workers=1), "-m", "paddle.distributed.launch", "--nproc_per_node", "2",
                "--log_dir", str(tmp_path / "logs"))
    until = time.monotonic() + 120
    first = tmp_path / "logs" / "workerlog.0"
    while not (first.is_file() and "Epoch 2/" in first.read_text(encoding="utf-8")):
        assert tool.process.poll() is None and time.monotonic() < until, tool.said()[-3000:]
        time.sleep(0.1)
    everyone = tool.children()
    tool.process.send_signal(signal.SIGINT)
    tool.process.wait(60)
    assert all_end(everyone, 2)
    said = [(tmp_path / "logs" / f"workerlog.{rank}").read_text(encoding="utf-8") for rank in range(2)]
    for text in said:
        assert "stopped by SIGTERM. Go on with -o Global.checkpoints=" in text  # which launch makes of a Ctrl-C
        assert "Traceback" not in text and "stopped at once" not in text
    kept = checkpoint.steps(next((tmp_path / "out").glob("*/*/ckpt")))
    assert kept and all(map(checkpoint.is_whole, kept))
