"""Which Python `make` takes: the one that is named, else the system's, else a newer one beside it; never one that is too old."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "embedded/venv.sh"
OLD = "#!/bin/sh\n[ $1 = --version ] && echo Python 3.10.4 && exit 0\nexit 1\n"
NEW = """#!/bin/sh
[ $1 = -c ] && exit 0
echo "$0 $*" >> "$TAKEN"
[ $2 != venv ] || { mkdir -p .venv/bin && ln -s "$0" .venv/bin/python; }
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("mkdir", "ln"):
        (folder / name).symlink_to(shutil.which(name) or "")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def run(programs: Path, python: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Return how the script ended, and which Python made the environment."""
    taken = programs.parent / "taken"
    taken.touch()
    variables = {**os.environ, "PATH": str(programs), "TAKEN": str(taken)}
    done = subprocess.run(
        ["/bin/sh", SCRIPT, python], cwd=programs.parent, env=variables, capture_output=True, text=True, check=False
    )
    made = [line for line in taken.read_text().splitlines() if "-m venv" in line]
    return done, Path(made[0].split()[0]).name if made else ""


def test_the_system_s_own_is_taken_if_it_is_new_enough(programs: Path) -> None:
    put(programs, "python3", NEW)
    put(programs, "python3.12", NEW)
    assert run(programs, "python3")[1] == "python3"


def test_one_beside_it_is_taken_where_it_is_too_old(programs: Path) -> None:
    put(programs, "python3", OLD)
    put(programs, "python3.11", NEW)
    done, taken = run(programs, "python3")
    assert (done.returncode, taken) == (0, "python3.11")


@pytest.mark.parametrize(
    ("python", "beside", "why"),
    [
        ("python3", False, "python3 is Python 3.10.4"),
        ("python3.10", True, "python3.10 is Python 3.10.4"),  # who names one does not get another
        ("python3.14", True, "python3.14 is not there"),
    ],
)
def test_else_it_is_said_and_nothing_is_made(programs: Path, python: str, *, beside: bool, why: str) -> None:
    put(programs, "python3", OLD)
    put(programs, "python3.10", OLD)
    if beside:
        put(programs, "python3.11", NEW)
    done, taken = run(programs, python)
    assert (done.returncode, taken) == (1, "")
    assert f"error: {why}; gpuserve needs Python 3.11 or newer" in done.stderr
    assert "Fix: install it" in done.stderr
