"""`gpuserve` while its modules load."""

import signal
import subprocess
import sys

import pytest

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
