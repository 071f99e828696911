"""Executing the tutorial; `python -m notebook_support` (`make notebook`) writes its outputs anew."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
HOME = "/path/to"
"""Stands in the outputs for the folder in which the notebook was executed."""

# What differs from one execution to the next: how long things take, and the ids of runs.
_PASSING = {
    r"\b\d+\.\d\d s\b": "0.00 s",
    r"\b\d{8}T\d{6}Z-(\w+)-[0-9a-f]{6}\b": r"00000000T000000Z-\1-000000",
}


def execute(folder: Path) -> nbformat.NotebookNode:
    """Return the tutorial as it is after being executed in an empty folder; an error in a cell is raised."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    shutil.copy(ROOT / "examples" / "trade_momentum.py", folder)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute()
    # What the kernel says of itself.
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_placed(output, str(folder.resolve())) for output in cell.outputs]
    return notebook


def _placed(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(folder, HOME)
    if isinstance(value, list):
        return [_placed(each, folder) for each in value]
    if isinstance(value, dict):
        return nbformat.from_dict({name: _placed(each, folder) for name, each in value.items()})
    return value


def outputs(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Return the source and the outputs of each code cell, less what passes."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            text = "\n".join(
                f"{kind}: {content}" for output in cell.outputs for kind, content in _parts(output)
            )
            for pattern, instead in _PASSING.items():
                text = re.sub(pattern, instead, text)
            shown.append((cell.source, text))
    return shown


def _parts(output: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return (
        sorted(output["data"].items()) if "data" in output else [(output.output_type, output.get("text", ""))]
    )


def main() -> None:
    """Execute the tutorial, and write it where its outputs changed."""
    with tempfile.TemporaryDirectory(prefix="ticklake-") as folder:
        done = execute(Path(folder))
    if outputs(done) == outputs(nbformat.read(TUTORIAL, as_version=4)):
        print("the outputs are as they were")
        return
    TUTORIAL.write_text(nbformat.writes(done) + "\n", encoding="utf-8")
    print(f"{TUTORIAL.relative_to(ROOT)} was written anew")


if __name__ == "__main__":
    main()
