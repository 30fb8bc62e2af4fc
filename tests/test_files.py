"""The ground floor of files: whole or not at all, one process at a time, nothing of dead runs."""
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ppadapt import files

ROOT = Path(__file__).resolve().parents[1]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_has_a_line_for_what_fits_and_for_every_row_of_numbers(tmp_path):
    """A confusion matrix of a hundred classes was ten thousand lines; what is written reads back as it was."""
    matrix = [[1000 + column for column in range(100)] for _ in range(100)]
    data = {"top1": 61.5, "confusion": matrix, "per_class": [{"class": "ü", "recall": None}], "empty": {},
            "n": {1: "b"}, "long": ["x" * 70, "y" * 70], "deep": {"a" * 60: {"b" * 60: [True, None]}}}
    files.write_json(tmp_path / "a.json", data)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {**data, "n": {"1": "b"}} and text.count("\n") < 125
    assert '  "per_class": [{"class": "ü", "recall": null}],\n' in text and '  "n": {"1": "b"},\n' in text
    files.write_json(tmp_path / "b.json", {"a": 1, "b": [2, 3]})
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{"a": 1, "b": [2, 3]}\n'


def test_two_threads_write_the_same_file(tmp_path):
    """Each under a temporary name of its own: the file is one of the two, whole."""
    texts = [letter * 2_000_000 for letter in "ab"]
    threads = [threading.Thread(target=lambda text=text: [files.write_text(tmp_path / "a", text) for _ in range(5)])
               for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_text() in texts and [p.name for p in tmp_path.iterdir()] == ["a"]


ADD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ppadapt import files
if sys.argv[4] == "no locks":
    files.fcntl = None
path = Path(sys.argv[2])
for i in range(40):
    with files.locked(path):
        lines = path.read_text() if path.is_file() else ""
        files.write_text(path, lines + f"{sys.argv[3]} {i}\\n")
"""


@pytest.mark.parametrize("system", ["locks", "no locks"])
def test_processes_that_add_to_one_file_lose_nothing(tmp_path, system):
    path = tmp_path / "deep" / "all.txt"
    runs = [subprocess.Popen([sys.executable, "-c", ADD, str(ROOT), str(path), name, system], stderr=subprocess.PIPE)
            for name in "abc"]
    assert [run.communicate()[1] for run in runs] == [b""] * 3
    assert sorted(path.read_text().split("\n")[:-1]) == sorted(f"{n} {i}" for n in "abc" for i in range(40))
    assert [p.name for p in path.parent.iterdir()] == ["all.txt"]


@pytest.mark.parametrize("system", ["locks", "no locks"])
def test_a_waiter_and_a_newcomer_are_not_inside_together(tmp_path, monkeypatch, system):
    """The first holder removes the lock file that the second waits for, before the third comes."""
    if system == "no locks":
        monkeypatch.setattr(files, "fcntl", None)
    inside, together, waited = [], [], []

    def use(name, hold):
        with files.locked(tmp_path / "x", lambda: waited.append(name)):
            inside.append(name)
            together.append(list(inside))
            time.sleep(hold)
            inside.remove(name)

    threads = [threading.Thread(target=use, args=job) for job in (("A", 0.2), ("B", 0.4), ("C", 0.05))]
    for thread, pause in zip(threads, (0.05, 0.3, 0)):
        thread.start()
        time.sleep(pause)
    for thread in threads:
        thread.join()
    assert together == [["A"], ["B"], ["C"]] and waited == ["B", "C"] and not list(tmp_path.iterdir())


def _hold(path, held):
    files.fcntl = None
    with files.locked(path):
        held.set()
        time.sleep(60)


def test_the_lock_of_a_dead_process_is_taken(tmp_path):
    held = multiprocessing.Event()
    process = multiprocessing.Process(target=_hold, args=(tmp_path / "x", held))
    process.start()
    assert held.wait(20)
    process.kill()
    process.join()
    begun = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "fcntl", None)
        with files.locked(tmp_path / "x"):
            assert time.perf_counter() - begun < 5


def test_what_dead_runs_left_goes_and_nothing_else(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, place = int(done.stdout), tmp_path / "digits" / "20261126-151655"
    place.mkdir(parents=True)
    node = files._NODE
    gone = [place / f".latest.safetensors.{node}-{dead}-0.tmp", tmp_path / f".export.{node}-{dead}-3.tmp"]
    stay = [place / f".latest.safetensors.{node}-{os.getpid()}-0.tmp", place / f".a.elsewhere-{dead}-0.tmp",
            place / ".hidden.tmp", place / "notes.tmp", place / f".b.{node}-{dead}.tmp"]
    for path in (*gone[:1], *stay):
        path.write_bytes(b"x")
    gone[1].mkdir()
    (gone[1] / "inference.json").write_bytes(b"x")
    assert set(files.remove_leftovers(tmp_path, depth=2)) == set(gone)
    assert all(path.exists() for path in stay) and not any(path.exists() for path in gone)
    assert files.remove_leftovers(tmp_path / "nowhere", depth=2) == []
