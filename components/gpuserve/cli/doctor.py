"""`gpuserve doctor`: what this machine has of what gpuserve needs."""

import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass

import typer
from rich.table import Table

from gpuserve.cli.guard import FAILED
from gpuserve.cli.options import JsonOption
from gpuserve.cli.output import stdout, to_json


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        subject: What it is.
        ok: Whether it is as it should be.
        found: What was found.
        needed: False when gpuserve works without it.
    """

    subject: str
    ok: bool
    found: str
    needed: bool = True


def doctor(as_json: JsonOption = False) -> None:
    """Say what is here: Python, Pulumi, the cluster, a GPU. Exit status 1 when something is missing that is needed."""
    diagnoses = [_python(), _pulumi(), _cluster(), _gpu()]
    if as_json:
        typer.echo(to_json([asdict(diagnosis) for diagnosis in diagnoses]))
    else:
        table = Table("", "what", "found")
        for diagnosis in diagnoses:
            table.add_row(_mark(diagnosis), diagnosis.subject, diagnosis.found)
        stdout().print(table)
    if any(diagnosis.needed and not diagnosis.ok for diagnosis in diagnoses):
        raise typer.Exit(FAILED)


def _mark(diagnosis: Diagnosis) -> str:
    if diagnosis.ok:
        return "[green]ok[/]"
    return "[red]missing[/]" if diagnosis.needed else "none"


def _python() -> Diagnosis:
    return Diagnosis("python", ok=True, found=platform.python_version())


def _pulumi() -> Diagnosis:
    program = shutil.which("pulumi")
    if program is None:
        return Diagnosis("pulumi", ok=False, found="not on PATH; `make up` gets it")
    answer = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
    found = answer.stdout.strip() or answer.stderr.strip()
    return Diagnosis("pulumi", ok=answer.returncode == 0, found=f"{found} ({program})")


def _cluster() -> Diagnosis:
    from gpuserve.cli.cluster import ClusterUnreachableError, connect

    try:
        cluster = connect()
        return Diagnosis("cluster", ok=True, found=f"Kubernetes {cluster.version} at {cluster.address}")
    except ClusterUnreachableError as error:
        return Diagnosis("cluster", ok=False, found=str(error))


def _gpu() -> Diagnosis:
    """Look for NVIDIA's driver; none is needed here, because servers and builds that want one run on the cluster's nodes."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports] - optional, present where there is a driver
    except ImportError:
        return Diagnosis("gpu", ok=False, found="no NVIDIA management library (nvidia-ml-py) here", needed=False)
    try:
        pynvml.nvmlInit()
        names = [
            str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i))) for i in range(pynvml.nvmlDeviceGetCount())
        ]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return Diagnosis("gpu", ok=False, found="no NVIDIA driver here", needed=False)
    return Diagnosis("gpu", ok=True, found=", ".join(names), needed=False)
