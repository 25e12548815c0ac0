"""The Pulumi CLI, run as a user would run it."""

import json
import os
import re
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.run.steps import Progress

_TAIL = 40
"""Lines of output that a failure shows: enough for the engine's whole diagnostics of one resource."""


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

    def select(self) -> None:
        """Make the stack when the backend does not have it yet."""
        backend = urlparse(self.variables.get("PULUMI_BACKEND_URL", ""))
        if backend.scheme == "file":
            Path(backend.path).mkdir(parents=True, exist_ok=True)
        self._run(["stack", "select", "--create", self.stack], lambda _line: None)

    def up(self, progress: Progress) -> str:
        """Run `pulumi up` with the stack's policy pack; return the engine's summary of changes.

        A lock left by a run that was killed is removed first; a lock of a run that lives is an error.
        """
        self.unlock()
        arguments = ["up", "-s", self.stack, "--yes", "--skip-preview", "--policy-pack", "policies"]
        return _changes(self._run(arguments, progress))

    def destroy(self, progress: Progress) -> None:
        """Run `pulumi destroy`."""
        self.unlock()
        self._run(["destroy", "-s", self.stack, "--yes", "--skip-preview"], progress)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs."""
        return json.loads("\n".join(self._run(["stack", "output", "-s", self.stack, "--json"], lambda _line: None)))

    def unlock(self) -> None:
        """Remove the file backend's lock of a process that is gone."""
        backend = urlparse(self.variables.get("PULUMI_BACKEND_URL", ""))
        if backend.scheme != "file":
            return
        for lock in Path(backend.path, ".pulumi", "locks").rglob("*.json"):
            pid = json.loads(lock.read_text() or "{}").get("pid")
            if not isinstance(pid, int) or not _is_pulumi(pid):
                lock.unlink(missing_ok=True)

    def _run(self, arguments: list[str], progress: Progress) -> list[str]:
        command = ["pulumi", "--non-interactive", "--color", "never", *arguments]
        environment = {**os.environ, **self.variables}
        lines: list[str] = []
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                assert process.stdout is not None  # noqa: S101 - it was asked for two lines above
                for line in process.stdout:
                    log.write(line)
                    lines.append(line.rstrip("\n"))
                    progress(line)
                status = process.wait()
            except BaseException:
                process.terminate()  # the engine finishes what is in flight, and writes its state
                process.wait()
                raise
        if status != 0:
            shown = deque((line for line in lines if line.strip()), _TAIL)
            fix = f"mend what the lines below name and run it again; it continues from there (whole output: {self.log})"
            raise ClusterError(f"pulumi {arguments[0]}", self.stack, f"it ended with status {status}", fix, log=shown)
        return lines


def _changes(lines: list[str]) -> str:
    counts = [line.strip() for line in lines if re.match(r"\s+[+~±-]+ \d+ |\s+\d+ unchanged|\s+[+-]{2}\d+ ", line)]
    return ", ".join(counts) or "no changes"


def _is_pulumi(pid: int) -> bool:
    try:
        return b"pulumi" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
