"""A test's server with everything that it starts: all of it is gone when the test is."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 30


@contextmanager
def server_process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command as the head of a process group of its own; its output goes to `log`."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield process
    finally:
        # TorchServe's launcher ends when it is told to and leaves its server behind, so the group is told.
        if not _ended(process, signal.SIGTERM, PATIENCE):
            _ended(process, signal.SIGKILL, PATIENCE)


def _ended(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> bool:
    """Send a signal to the group and return whether nobody is left in it within so many seconds."""
    deadline = time.monotonic() + seconds
    try:
        os.killpg(process.pid, number)
        while time.monotonic() < deadline:
            process.poll()  # an ended head counts as a member until it is waited for
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        return True
    return False
