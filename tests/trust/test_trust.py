"""Every row of the table (`trust_table.py`) in this process: one line, in time, nothing lost; or right."""
import importlib
from pathlib import Path

import pytest
import trust_table

from ppadapt.errors import UserError

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
ROWS = [row for name in MODULES for row in importlib.import_module(name).ROWS]


def test_the_table_has_its_rows_once():
    names = [str(row) for row in ROWS]
    assert len(names) >= 250 and len(set(names)) == len(names)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trust_table.check(row, tmp_path, UserError)
