"""The Pulumi CLI, run as a user would run it."""

import json
import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.run.orphans import end_orphans, mark
from gpuserve_embedded.run.steps import Progress

_TAIL = 40
"""Lines of output that a failure shows: enough for the engine's whole diagnostics of one resource."""


_GRACE = 120.0
"""Seconds that an interrupted engine gets to finish what is in flight: a pod that is starting, an image that is pushed."""


@dataclass(frozen=True)
class Pulumi:
    """One stack of one checkout.

    Attributes:
        folder: The checkout.
        stack: Name of the stack.
        variables: Environment beside the process's own.
        log: File that keeps the engine's whole output.
    """

    folder: Path
    stack: str
    variables: Mapping[str, str]
    log: Path

    def select(self, progress: Progress) -> None:
        """Make the stack when the backend does not have it yet."""
        self._await_turn(progress)
        backend = urlparse(self.variables.get("PULUMI_BACKEND_URL", ""))
        if backend.scheme == "file":
            Path(backend.path).mkdir(parents=True, exist_ok=True)
        self._run(["stack", "select", "--create", self.stack], lambda _line: None)

    def up(self, progress: Progress) -> str:
        """Run `pulumi up` with the stack's policy pack; return the engine's summary of changes.

        The cluster is looked at first (`--refresh`): what somebody deleted or edited by hand is as the stack says afterwards, where the
        engine's state alone would call it unchanged. What was only added, such as a container's variable, is told by `gpuserve status`.
        """
        self._await_turn(progress)
        arguments = ["up", "-s", self.stack, "--yes", "--skip-preview", "--refresh", "--policy-pack", "policies"]
        return _changes(self._run(arguments, progress))

    def destroy(self, progress: Progress) -> None:
        """Run `pulumi destroy`."""
        self._await_turn(progress)
        self._run(["destroy", "-s", self.stack, "--yes", "--skip-preview"], progress)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs."""
        return json.loads("\n".join(self._run(["stack", "output", "-s", self.stack, "--json"], lambda _line: None)))

    def _await_turn(self, progress: Progress) -> None:
        """Remove the file backend's lock of a run that was killed; wait for a run that lives, of a killed `make up` perhaps.

        What a killed engine left running is ended then.
        """
        backend = urlparse(self.variables.get("PULUMI_BACKEND_URL", ""))
        if backend.scheme == "file":
            for lock in Path(backend.path, ".pulumi", "locks").rglob("*.json"):
                while (pid := _holder(lock)) is not None:
                    progress(f"waiting for another run on this stack to end (pulumi, process {pid})")
                    time.sleep(1)
                lock.unlink(missing_ok=True)
            _remove_cut_notes(Path(backend.path, ".pulumi"))
        end_orphans(progress)

    def _run(self, arguments: list[str], progress: Progress) -> list[str]:
        command = ["pulumi", "--non-interactive", "--color", "never", *arguments]
        lines: list[str] = []
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with (
            self.log.open("a") as log,
            _started(command, self.folder, {**os.environ, **self.variables, **mark(engine=True)}) as process,
        ):
            log.write(f"$ {' '.join(command)}\n")
            for line in process.stdout or ():
                log.write(line)
                lines.append(line.rstrip("\n"))
                progress(line)
            status = process.wait()
        if status != 0:
            shown = deque((line for line in lines if line.strip()), _TAIL)
            fix = f"mend what the lines below name and run it again; it continues from there (whole output: {self.log})"
            if any("PULUMI_ACCESS_TOKEN" in line for line in shown):
                fix = (
                    "say where the stack's state is kept: `pulumi login`, or `pulumi login --local` for a file of this machine"
                )
            raise ClusterError(f"pulumi {arguments[0]}", self.stack, f"it ended with status {status}", fix, log=shown)
        return lines


@contextmanager
def _started(command: list[str], folder: Path, environment: Mapping[str, str]) -> Generator["subprocess.Popen[str]"]:
    """Run the engine in a session of its own, so that Ctrl-C reaches it once: at a second one it would drop its state."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        process.send_signal(signal.SIGINT)  # the engine finishes what is in flight and writes its state
        try:
            process.communicate(timeout=_GRACE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        raise


def _holder(lock: Path) -> int | None:
    """Return the process that holds a lock, or None when it is gone."""
    try:
        pid = json.loads(lock.read_text()).get("pid")
        alive = b"pulumi" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if alive else None


def _remove_cut_notes(state: Path) -> None:
    """Remove the notes that a killed engine half wrote (`.attrs`: type and checksum of the file beside them).

    The file backend replaces a file in one step, and its notes not; of a file whose notes are cut off it says "EOF", and without any it
    reads the file.
    """
    for notes in state.rglob("*.attrs"):
        try:
            json.loads(notes.read_bytes())
        except ValueError:
            notes.unlink(missing_ok=True)


def _changes(lines: list[str]) -> str:
    counts = [line.strip() for line in lines if re.match(r"\s+[+~±-]+ \d+ |\s+\d+ unchanged|\s+[+-]{2}\d+ ", line)]
    return ", ".join(counts) or "no changes"
