"""What all tests share: the golden cases."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import ppadapt  # noqa: F401  before any test imports Paddle: the suite then runs on all cores

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = (ROOT / "tests" / "golden", ROOT.parent / "shared" / "golden")


def find_golden(case: str, file: str = "") -> Path:
    """The folder of a golden case that holds `file`: the shipped one, else the development machines'."""
    for folder in GOLDEN:
        if (folder / case / file).exists():
            return folder / case
    pytest.skip(f"golden case {case}/{file} is neither in {GOLDEN[0]} nor in {GOLDEN[1]}")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_paddle(*features): skipped where this Paddle lacks one of "
                            "`paddle_compat.FEATURES`, with the reason")


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    for marker in item.iter_markers("needs_paddle"):
        from ppadapt import paddle_compat  # where it is asked for: many tests need no Paddle

        for reason in filter(None, map(paddle_compat.missing, marker.args)):
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def log_lines_reach_caplog():
    """A run sets the log up for itself, the fuzzers keep it quiet; the next test's caplog listens at the root."""
    logger = logging.getLogger("ppadapt")
    logger.propagate = True
    logger.setLevel(logging.INFO)


@pytest.fixture(autouse=True, scope="session")
def own_feature_cache(tmp_path_factory):
    """The tests keep features in a folder of their own, not in the user's; tools that they start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPADAPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def golden_dir():
    """`golden_dir(case)` -> its folder, or a skip that says where it was looked for."""
    return find_golden
