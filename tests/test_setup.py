"""How the environment is made: the search for a Python, and what the lock files promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE_PYTHON = sys._base_executable


class Machine:
    """A machine with only the commands that a test puts on it."""

    def __init__(self, folder: Path) -> None:
        self.commands = folder / "bin"
        self.pyenv = folder / "pyenv"
        self.commands.mkdir()
        for tool in ("sh", "basename"):
            (self.commands / tool).symlink_to(str(shutil.which(tool)))

    def command(self, name: str, script: str) -> Path:
        return self._executable(self.commands / name, script)

    def pyenv_version(self, version: str, script: str) -> Path:
        return self._executable(self.pyenv / "versions" / version / "bin" / "python", script)

    def find_python(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "tools" / "find-python"],
            env={"PATH": str(self.commands), "PYENV_ROOT": str(self.pyenv)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @staticmethod
    def _executable(path: Path, script: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path


def pretending(change: str) -> str:
    """A script that is this Python, but for a change made before the code given with `-I -c` runs."""
    return f"""exec "{BASE_PYTHON}" -I -c 'import sys; {change}; exec(sys.argv[1])' "$3" """


WORKS = f'exec "{BASE_PYTHON}" "$@"'
TOO_OLD = pretending("sys.version_info = (3, 12, 1)")
WITHOUT_GIL = pretending('import sysconfig; sysconfig.get_config_var = {"Py_GIL_DISABLED": 1}.get')
WITHOUT_VENV = pretending(
    "import importlib.util as util; find = util.find_spec; "
    'util.find_spec = lambda name: find(name) if name != "ensurepip" else None'
)
# What a pyenv shim does where its version is not selected.
BROKEN_SHIM = 'echo "pyenv: python3.13: command not found" >&2; exit 127'


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["python3.13", "python3.14", "python3", "python"])
def test_a_python_on_path_is_found(machine: Machine, name: str) -> None:
    machine.command(name, WORKS)
    result = machine.find_python()
    assert (result.returncode, result.stdout) == (0, f"{BASE_PYTHON}\n")


def test_what_does_not_run_or_does_not_fit_is_passed_over(machine: Machine) -> None:
    machine.command("python3.13", BROKEN_SHIM)
    machine.command("python3.14", WITHOUT_GIL)
    machine.command("python3", TOO_OLD)
    machine.command("python", WITHOUT_VENV)
    machine.pyenv_version("3.13.0", WORKS)
    result = machine.find_python()
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{BASE_PYTHON}\n", "")


def test_what_uv_knows_is_found(machine: Machine) -> None:
    python = machine.pyenv_version("elsewhere", WORKS)
    machine.command("uv", f'case "$*" in *3.14*) echo "{python}";; *) exit 2;; esac')
    result = machine.find_python()
    assert (result.returncode, result.stdout) == (0, f"{BASE_PYTHON}\n")


def test_other_versions_of_pyenv_do_not_count(machine: Machine) -> None:
    machine.pyenv_version("3.12.1", WORKS)
    assert machine.find_python().returncode == 1


def test_without_python_the_message_says_what_to_do(machine: Machine) -> None:
    machine.command("python3", TOO_OLD)
    result = machine.find_python()
    assert (result.returncode, result.stdout) == (1, "")
    assert "ticklake needs CPython 3.13 or 3.14" in result.stderr
    assert "make setup PYTHON=" in result.stderr
    # Not even a home folder is needed to say so.
    result = subprocess.run(
        [ROOT / "tools" / "find-python"],
        env={"PATH": str(machine.commands)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ticklake needs CPython 3.13 or 3.14" in result.stderr


def test_a_python_without_venv_is_named_with_the_package_that_it_lacks(machine: Machine) -> None:
    machine.command("python3.13", WITHOUT_VENV)
    result = machine.find_python()
    assert result.returncode == 1
    assert "apt install python3.13-venv" in result.stderr


def test_a_python_may_be_named(machine: Machine) -> None:
    machine.command("python3.13", BROKEN_SHIM)
    named = machine.command("mine", WORKS)
    assert machine.find_python(PYTHON=str(named)).stdout == f"{BASE_PYTHON}\n"


def test_a_named_python_that_does_not_fit_is_refused(machine: Machine) -> None:
    machine.command("python3.13", WORKS)
    result = machine.find_python(PYTHON=str(machine.command("mine", TOO_OLD)))
    assert (result.returncode, result.stdout) == (1, "")
    assert "is not a working CPython 3.13 or 3.14" in result.stderr


PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)(?:\[[a-z,]+\])?==(?P<version>[^ ;]+)"
    r"(?: ; [^-]*?)?(?:\s+--hash=sha256:[0-9a-f]{64})+"
)


def pins(lock: str) -> dict[str, str]:
    """The pinned versions by normalised name; anything in the file that is not a hashed pin is an error."""
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = {}
    for line in lines:
        match = PIN.fullmatch(line)
        assert match is not None, line
        found[match["name"]] = match["version"]
    return found


def normalised(requirement: str) -> str:
    return re.split(r"[\[<>=!~ ;]", requirement)[0].lower().replace("_", "-")


def test_lock_files_hold_hashed_pins_and_nothing_else() -> None:
    """No index host, no link and no path: those are the installing machine's own affair."""
    assert pins("runtime.txt").items() <= pins("dev.txt").items()
    assert pins("runtime.txt").items() <= pins("bench.txt").items()
    assert pins("v1.txt")["nautilus-trader"] == "1.231.0"


def test_lock_files_hold_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = {normalised(requirement) for requirement in project["project"]["dependencies"]}
    assert runtime <= pins("runtime.txt").keys()
    needed = {*project["dependency-groups"]["dev"], *project["build-system"]["requires"]}
    assert {normalised(requirement) for requirement in needed} <= pins("dev.txt").keys()
    measured = {*project["dependency-groups"]["bench"], *project["build-system"]["requires"]}
    assert {normalised(requirement) for requirement in measured} <= pins("bench.txt").keys()
