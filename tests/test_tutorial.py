"""The tutorial notebook: it runs, its outputs are those of a run, and nothing of a machine is in it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from notebook_support import TUTORIAL, execute, outputs


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    return nbformat.read(TUTORIAL, as_version=4)


def test_it_runs_and_shows_what_is_stored(stored: nbformat.NotebookNode, tmp_path: Path) -> None:
    for (source, now), (_, then) in zip(outputs(execute(tmp_path)), outputs(stored), strict=True):
        assert now == then, f"{source}\n\nRun `make notebook` if this is what it should show now."


def test_it_is_executed_small_and_of_no_machine(stored: nbformat.NotebookNode) -> None:
    nbformat.validate(stored)
    text = TUTORIAL.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert not re.search(r"/tmp|/root|/work|/Users|/home/(?!you)", text)
    for cell in stored.cells:
        if cell.cell_type == "code":
            assert cell.outputs, cell.source
            assert all(output.output_type == "execute_result" for output in cell.outputs), cell.source
            assert "<script" not in str(cell.outputs)
