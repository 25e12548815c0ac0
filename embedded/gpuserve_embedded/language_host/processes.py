"""The programs that the language host has started, so that none outlives it."""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

_END_SECONDS = 3.0


class Processes:
    """Starts processes and remembers those that run."""

    def __init__(self) -> None:
        """Begin with none."""
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def start(
        self, command: Sequence[str], folder: str, environment: Mapping[str, str], *, capture: bool
    ) -> Generator[subprocess.Popen[bytes]]:
        """Run a command until the block ends.

        Args:
            command: The program and its arguments.
            folder: Where to run it.
            environment: Its environment, whole.
            capture: Whether its output is read here; if not, it goes where the host's own goes.

        Yields:
            The process. It is ended if it still runs when the block is left.
        """
        output = subprocess.PIPE if capture else None
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        with self._lock:
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)
            _end(process)

    def end_all(self) -> None:
        """End what still runs."""
        with self._lock:
            running = list(self._running)
        for process in running:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
