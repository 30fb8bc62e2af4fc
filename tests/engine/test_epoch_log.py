"""What a run says while it goes on: how often, where, and how long it will take."""
import importlib.util
import logging
import sys
import types
from collections import Counter
from datetime import timedelta

import pytest
from test_training import plan

from ppadapt import log
from ppadapt.engine import epoch_log
from ppadapt.engine.epoch_log import EpochLog, Pace
from ppadapt.runs import experiment
from ppadapt.runs.compare import Comparison


def test_lines_keep_their_distance_over_epochs():
    now = [0.0]
    pace = Pace(10, lambda: now[0])
    written = []
    for second in range(0, 65, 3):
        now[0] = second
        if pace.due():
            written.append(second)
    assert written == [0, 12, 24, 36, 48, 60]
    assert [Pace(0, lambda: 0.0).due() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("seconds, lines", [(0, 6), (1000, 1)])
def test_a_file_gets_a_line_every_so_often_and_the_curves_all_points(tmp_path, seconds, lines):
    """Two epochs of three batches: 10,000 lines would be of 10,000 batches, however quick."""
    results = experiment.train(plan(tmp_path, Global__print_batch_step=1, Global__print_seconds=seconds))
    text = (tmp_path / "out" / "run").glob("*/train.log").__next__().read_text(encoding="utf-8")
    assert text.count("][Iter: ") == lines and "[Train][Epoch 1/2][Iter: 0/3]" in text
    assert text.count("[Avg]") == 4 and text.count("eta: ") == lines + 2 and len(results["history"]) == 2


def test_the_time_left_is_of_the_whole_run_with_its_evaluations(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(epoch_log.time, "perf_counter", lambda: now[0])
    pace = Pace(0, lambda: now[0])
    now[0] = 7.0
    pace.evaluated(begun=3.0, left=2)  # 4 s each
    shown = EpochLog(epoch=2, epochs=3, batches=10, every=1, schedule_name="Cosine", first=4, pace=pace)
    for _ in range(2):
        now[0] += 1.5
        shown.read()
        shown.step(8)
    # 4 batches of this epoch, 10 of the next, 1.5 s each, and two evaluations.
    assert shown.time_left() == timedelta(seconds=14 * 1.5 + 2 * 4)
    shown.close()


def test_beside_a_bar_the_screen_has_no_lines_that_say_the_same(tmp_path, monkeypatch, capsys):
    log.setup(tmp_path / "train.log")
    for wants in (False, True):
        monkeypatch.setattr(log, "wants_bar", lambda wants=wants: wants)
        log.LOGGER.info("a line %s", wants, extra=log.BESIDE_BAR)
        log.LOGGER.info("another %s", wants)
    shown = capsys.readouterr().out
    assert [text in shown for text in ("a line False", "a line True", "another True")] == [True, False, True]
    assert all(text in (tmp_path / "train.log").read_text() for text in ("a line False", "a line True"))


def test_a_notebook_without_ipywidgets_has_a_bar_of_text_beside_its_log_lines(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shown = EpochLog(epoch=1, epochs=2, batches=10, every=1, schedule_name="Cosine")
    shown.step(8)
    shown.line(0, 0.1, {"loss": 1.23456, "top1": 50.0, "top5": 90.0, "images": 8})
    shown.bar.refresh()
    out, err = capsys.readouterr()
    assert "epoch 1/2" in out and "1/10" in out and "loss 1.23, top1 50, run ends in 0:00:0" in out and err == ""
    shown.close()


def test_a_comparison_says_how_long_its_runs_will_take(caplog):
    caplog.set_level(logging.INFO)
    comparison = Comparison.__new__(Comparison)
    comparison.total, comparison._left, comparison._took = 6, Counter(vpt=2, full=1, linear=0), {}
    comparison._say_left()
    assert not caplog.records  # nothing is known yet
    comparison._took = {"vpt": [10.0, 20.0], "linear": [3.0]}
    comparison._say_left()
    assert caplog.records[-1].getMessage() == "3 of 6 runs are left: about 0:00:41"  # 2 x 15 s and a mean of 11 s
