"""Running a program and measuring it from outside, and the table that the README shows."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Report = Callable[[str], None]
"""Takes a line that says what is being measured now."""

KIB_PER_MIB = 1024

# A process's peak counts what it was before it became the program: the process that it was forked from. So the
# program is started by a small one (some 10 MiB), not by this one, which may have grown large.
_LAUNCHER = """
import os, resource, subprocess, sys, time
started = time.perf_counter()
status = subprocess.call(sys.argv[2:])
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
os.write(int(sys.argv[1]), b"%r %r %d" % (seconds, used.ru_utime + used.ru_stime, used.ru_maxrss))
sys.exit(status)
"""


@dataclass(frozen=True)
class Run:
    """What one run of a program took.

    Attributes:
        seconds: Wall-clock time from start to end.
        mebibytes: Peak resident memory of the largest of its processes.
        output: What it printed on standard output.
        cpu_seconds: Processor time of it and all that it started, which other work on the machine hardly changes.
    """

    seconds: float
    mebibytes: float
    output: str
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the result, and what it stands beside."""

    what: str
    result: str
    beside: str = ""


def timed(command: Sequence[str | Path], variables: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Run:
    """Run a program to its end.

    Args:
        command: Program and arguments.
        variables: Environment over this process's own.
        cwd: Folder to run it in.

    Raises:
        RuntimeError: When it fails; with the end of what it said.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as figures:
        launched = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(figures.fileno()), *(str(part) for part in command)],
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[figures.fileno()],
            check=False,
        )
        output.seek(0)
        said = output.read().decode(errors="replace")
        figures.seek(0)
        measured = figures.read().split()
    if launched.returncode != 0:
        tail = "\n".join(said.splitlines()[-40:])
        raise RuntimeError(f"{' '.join(map(str, command))} ended with status {launched.returncode}:\n{tail}")
    seconds, cpu_seconds, kibibytes = measured
    return Run(float(seconds), int(kibibytes) / KIB_PER_MIB, said, float(cpu_seconds))


def best(runs: int, measure: Callable[[], Run]) -> Run:
    """Return the quickest of several runs: the one that the machine's other work disturbed least."""
    return min((measure() for _ in range(runs)), key=lambda run: run.seconds)


def bench_platform(count: int, *, pool: str = "bench", **service: Any) -> dict[str, Any]:
    """Return the platform object of a stack with ``count`` services of one model, each with one version and an autoscaler."""
    return {
        "environment": "local",
        "registry": "localhost:5000/models",
        "pools": [{"name": pool, "accelerator": "simulated", "gpus": 10_000, "quota": {"gpus": 10_000}}],
        "services": [
            {
                "name": f"service-{number}",
                "model": "filetype",
                "pool": pool,
                "versions": [{"build": "fp32", "weight": 100}],
                "traffic": {"host": f"service-{number}.example.com"},
                "scale": {"min": 1, "max": 2, "queue_time": "10ms"},
                **service,
            }
            for number in range(count)
        ],
        "monitoring": {"alerts": True, "dashboards": True, "namespace": "monitoring"},
    }
