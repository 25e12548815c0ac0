"""`gpuserve doctor`: what this machine has of what gpuserve needs."""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from gpuserve.cli.guard import FAILED
from gpuserve.cli.options import JsonOption
from gpuserve.cli.output import show, to_json
from gpuserve_images.compile.builders import ABSENT, builder_cuda, builder_version, builds
from gpuserve_images.compile.gpus import Gpu, Gpus, find_gpus
from gpuserve_images.compile.spec import COMPILED
from gpuserve_images.compile.starting import DRIVER
from gpuserve_images.compile.visible import BY_BUS, ORDER

SEVERAL = 2
"""GPUs from which on it matters which is the first."""


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        subject: What it is.
        ok: Whether it is as it should be.
        found: What was found.
        needed: False when gpuserve works without it.
        details: The same as data, where there is more than a sentence: of the GPUs each one's architecture, memory and MIG state.
    """

    subject: str
    ok: bool
    found: str
    needed: bool = True
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


def doctor(as_json: JsonOption = False) -> None:
    """Say what is here: Python, Pulumi, the cluster, GPUs, what compiles engines. Exit status 1 when something is missing that is needed."""
    gpus = find_gpus()
    diagnoses = [_python(), _pulumi(), _cluster(), _gpu(gpus), *(_builder(engine, gpus) for engine in COMPILED)]
    if as_json:
        typer.echo(to_json([asdict(diagnosis) for diagnosis in diagnoses]))
    else:
        table = Table("", "what", "found")
        for diagnosis in diagnoses:
            table.add_row(_mark(diagnosis), diagnosis.subject, escape(diagnosis.found))
        show(table)
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


def _gpu(gpus: Gpus) -> Diagnosis:
    """Say what GPUs are here; none is needed, because servers and builds that want one run on the cluster's nodes."""
    described = "; ".join(_described(gpu) + ("" if gpu in gpus.visible else " (hidden)") for gpu in gpus.found)
    driver = f"driver {gpus.driver}, CUDA {gpus.cuda}" if gpus.driver else ""
    problem = f"{gpus.reason}. Fix: {gpus.fix}" if gpus.problem else ""
    found = "; ".join(part for part in (described, driver, _first(gpus), problem) if part)
    details = asdict(gpus) | {"visible": [gpu.uuid for gpu in gpus.visible]}
    return Diagnosis("gpu", ok=not gpus.problem, found=found, needed=False, details=details)


def _described(gpu: Gpu) -> str:
    mig = f"MIG {gpu.mig}" + (f", {gpu.mig_devices} devices" if gpu.mig_devices else "")
    return f"{gpu.index}: {gpu.name} ({gpu.architecture}, {gpu.memory / 2**30:.0f} GiB, {mig})"


def _first(gpus: Gpus) -> str:
    """Say which GPU an engine would be built on, where there are several."""
    if len(gpus.found) < SEVERAL or not gpus.visible:
        return ""
    if gpus.choice.certain:
        return f"CUDA takes GPU {gpus.visible[0].index} first"
    return f"CUDA takes the fastest first, and its numbers may be others ({ORDER}={BY_BUS} makes them these)"


def _builder(engine: str, gpus: Gpus) -> Diagnosis:
    """Look for what compiles engines; a build for ONNX Runtime needs neither."""
    version, problem = builder_version(engine), ""
    wanted, offered = builder_cuda(engine), gpus.cuda and int(gpus.cuda.partition(".")[0])
    if version == ABSENT:
        problem = f"not installed; pip install 'gpuserve[{engine}]'"
    elif not builds(engine):
        problem = f"{version}, its name alone: enough to plan with, not to build; pip install 'gpuserve[{engine}]'"
    elif wanted and offered and offered < wanted:
        problem = f"{version} for CUDA {wanted}, and driver {gpus.driver} runs CUDA {gpus.cuda} only. Fix: {DRIVER}"
    return Diagnosis(engine, ok=not problem, found=problem or version, needed=False)
