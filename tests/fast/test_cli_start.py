"""`gpuserve` while its modules load."""

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

GPUSERVE = str(Path(sys.executable).with_name("gpuserve"))

PRESSED = """
import os, signal, sys
import gpuserve.cli.start as start

class Pressed:
    def find_spec(self, name, *rest):
        if name == "gpuserve.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Pressed())
sys.argv = ["gpuserve", "--help"]
start.main()
"""


@pytest.mark.parametrize(
    ("before", "status"),
    [("", -signal.SIGINT), ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)", 0)],
    ids=["pressed", "ignored"],
)
def test_ctrl_c_while_modules_load_says_nothing(before, status):
    done = subprocess.run([sys.executable, "-c", before + PRESSED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (status, "")
    assert ("Usage" in done.stdout) is (status == 0)


def test_afterwards_ctrl_c_is_the_commands_own():
    program = "import sys, signal; sys.argv = ['gpuserve', '--help']; import gpuserve.cli.start as s\ntry: s.main()\nexcept SystemExit: pass\n"
    shown = f"{program}print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "True"


def test_its_version_is_the_packages():
    done = subprocess.run([GPUSERVE, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{version('gpuserve')}\n"


PRINTED = """
import os, sys, types
import gpuserve.cli.start as start

def run():
    kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
    os.write(kept, b"a stage")
    for number in (1, 2):
        os.write(number, b"a warning of a library")
    print("a result")
    print("a notice", file=sys.stderr)
    print(sys.stdin.read(), end="")
    raise SystemExit(7)

sys.modules["gpuserve.cli.main"] = types.SimpleNamespace(main=run)
start.main()
"""


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2), (0, 2)], ids=str)
def test_what_is_printed_to_a_closed_stream_goes_into_no_file(closed, tmp_path):
    kept = tmp_path / "kept"
    shut = " ".join(f"{number}>&-" for number in closed)
    line = f'exec "$0" -c "$1" "$2" {shut}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, PRINTED, str(kept)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr
    assert kept.read_bytes() == b"a stage"


def test_a_full_disk_behind_stdout_is_told_as_that():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([GPUSERVE, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert (
        done.stderr == "the output: the disk that it goes to has no space left. Fix: free some, or send the output elsewhere\n"
    )
