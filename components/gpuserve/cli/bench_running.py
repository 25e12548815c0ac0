"""What `gpuserve bench` measures: a server, or a model in this process."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve.cli.bench_options import BenchError
from gpuserve.cli.bench_requests import requests_by_model, requests_to
from gpuserve.cli.bench_wish import Wish

if TYPE_CHECKING:
    from gpuserve_images.onnx_model.signature import Signature
    from gpuserve_images.records import Progress
    from gpuserve_images.spec import BuildSpec, ModelSpec
    from gpuserve_images.verify.inputs import Requests
    from gpuserve_images.verify.load import Callee
    from gpuserve_images.verify.report import VerifyReport


def measure(wish: Wish, progress: "Progress") -> "VerifyReport":
    """Do what was asked for.

    Raises:
        BenchError: When options do not go together.
        ImageError: When the model or the server cannot be measured.
    """
    from gpuserve_images.verify.capacity import Capacity
    from gpuserve_images.verify.load import Pace, measure_points
    from gpuserve_images.verify.report import VerifyReport

    declared = wish.declared()
    slo = wish.promise(declared)
    pace = Pace(warm_up=wish.warm_up, seconds=wish.seconds)
    asked = nullcontext(_server(wish, declared, progress)) if wish.url else _in_process(wish, declared, progress)
    with asked as (name, callee):
        found = measure_points(callee, wish.batches, wish.concurrencies, pace, progress)
        capacity = Capacity.of(found.points, slo, where=callee.where, cores=callee.cores, notes=found.notes)
    return VerifyReport(model=name, build=wish.build or None, capacity=capacity)


def _server(wish: Wish, declared: "ModelSpec | None", progress: "Progress") -> tuple[str, "Callee"]:
    from gpuserve_images.verify.ensemble import ensemble_requests
    from gpuserve_images.verify.grpc_server import GrpcServer
    from gpuserve_images.verify.http_server import HttpServer
    from gpuserve_images.verify.remote import Remote

    if wish.build or wish.threads:
        option = "--build" if wish.build else "--threads"
        raise BenchError(option, None, "means a model in this process, and `--url` a server", "leave one of the two out")
    name = wish.model or (declared.asked_as if declared else "")
    if not name:
        raise BenchError("--model", None, "is required with `--url`", "add `--model NAME`, the model's name in the server")

    def server_of(model: str) -> GrpcServer | HttpServer:
        remote = Remote(wish.url, model, protocol=wish.protocol, host=wish.host or None, timeout=wish.timeout)
        return GrpcServer(remote) if wish.protocol == "grpc" else HttpServer(remote)

    server = server_of(name)
    ensemble = declared.layout.ensemble if declared else None
    if declared is not None and ensemble is not None and name != declared.name:

        def known(part: Wish, model: "ModelSpec") -> "Path | Signature":
            # What is no ONNX file here is described by the server.
            return onnx_source(part, model, progress) or server_of(model.name).signature()

        requests = ensemble_requests(ensemble, requests_by_model(wish, declared, ensemble, known))
    else:
        source = None if wish.file is None else onnx_source(wish, declared, progress)
        requests = requests_to(wish, declared, source or server.signature())
    # Servers may know a model by another name than its images.
    return declared.name if declared else name, server.sending(requests.tensors)


@contextmanager
def _in_process(wish: Wish, declared: "ModelSpec | None", progress: "Progress") -> Generator[tuple[str, "Callee"]]:
    for option, value in (("--model", wish.model), ("--host", wish.host)):
        if value:
            raise BenchError(option, value, "belongs to a server", "add `--url URL`, or leave it out")
    if wish.file is None:
        raise BenchError("MODEL", None, "is missing, and so is `--url`", "name an ONNX file, a model's YAML file, or a server")
    if declared is not None and wish.build:
        with _build(wish, declared, progress) as callee:
            yield declared.name, callee
        return
    source = onnx_source(wish, declared, progress)
    if source is None:
        assert declared is not None  # noqa: S101 - what comes without a YAML is an ONNX file
        reason = "is required: the source is no ONNX model, and what is measured is ONNX"
        raise BenchError("--build", None, reason, f"add for example `--build {next(iter(declared.builds))}`")
    yield (declared.name if declared else wish.file.stem), _session(wish, source, requests_to(wish, declared, source))


def _session(wish: Wish, file: Path, requests: "Requests") -> "Callee":
    from gpuserve_images.onnx_model.session import Session
    from gpuserve_images.verify.in_process import InProcess

    return InProcess(Session(file, threads=wish.threads), requests.tensors, threads=wish.threads)


def onnx_source(wish: Wish, declared: "ModelSpec | None", progress: "Progress") -> Path | None:
    """Return the ONNX file that was given, or the source of the YAML that was given; None where that is no ONNX file."""
    assert wish.file is not None  # noqa: S101 - the callers' own rule, said to the type checker
    if declared is None:
        if not wish.file.is_file():
            raise BenchError("MODEL", str(wish.file), "is no file", "name an ONNX file or a model's YAML file")
        if wish.build:
            raise BenchError("--build", wish.build, "names a build, and an ONNX file has none", "give the model's YAML file")
        return wish.file
    from gpuserve_images.pipeline.job import Job, require_build
    from gpuserve_images.target import Target

    build = wish.build or next(iter(declared.builds))
    require_build(declared, build)
    files = Job(declared, build, wish.file.parent, Target()).files(progress)
    return files.entry if files.format == "onnx" else None


@contextmanager
def _build(wish: Wish, declared: "ModelSpec", progress: "Progress") -> Generator["Callee"]:
    """Give the build that was named, made unless it was made before: its ONNX file on this processor, or its engine on this GPU."""
    from gpuserve_images.compile.spec import COMPILED
    from gpuserve_images.pipeline.chain import plan
    from gpuserve_images.pipeline.job import Job, require_build
    from gpuserve_images.pipeline.making import make
    from gpuserve_images.pipeline.runner import Runner
    from gpuserve_images.pipeline.stages.engine_measures import engine_here
    from gpuserve_images.pipeline.store import cache_folder
    from gpuserve_images.target import Target
    from gpuserve_images.verify.ensemble import ensemble_in_process
    from gpuserve_images.verify.in_process import InProcess

    assert wish.file is not None  # noqa: S101 - the YAML came from it
    spec = require_build(declared, wish.build)
    if spec.engine == "native":
        reason = "serves the source model as it is, with the server's own framework"
        raise BenchError("--build", wish.build, reason, "measure the server that runs it, with `--url`")
    compiled = spec.engine in COMPILED
    target = Target("gpu", _gpu_here(wish.build, spec)) if compiled else Target()
    with Runner(cache_folder(), None, progress) as runner:
        job = Job(declared, wish.build, wish.file.parent, target)
        made = make(plan(job), runner)
        file = runner.get(made.way.model).file if made.way.model else made.model.file
        ensemble = declared.layout.ensemble
        if ensemble is not None:
            files = {member.job.model.name: runner.get(member.model).file for member in made.way.company}
            files[declared.name] = file

            def known(part: Wish, model: "ModelSpec") -> Path:
                return onnx_source(part, model, progress) or files[model.name]

            yield ensemble_in_process(ensemble, files, requests_by_model(wish, declared, ensemble, known), threads=wish.threads)
            return
        requests = requests_to(wish, declared, onnx_source(wish, declared, progress) or file)
        if not compiled:
            yield _session(wish, file, requests)
            return
        with engine_here(job, made.model, job.architectures[0]) as (engine, gpu):
            yield InProcess(engine, requests.tensors, gpu=gpu)


def _gpu_here(name: str, spec: "BuildSpec") -> str:
    """Return the architecture of a GPU of this machine that runs one of a build's engines."""
    from gpuserve_images.compile.gpus import find_gpus
    from gpuserve_images.compile.matching import fitting

    gpus = find_gpus()
    for gpu in gpus.visible:
        if fitting(spec.architectures, gpu.architecture, spec.compile):
            return gpu.architecture
    reason = f"makes engines for {', '.join(spec.architectures)}, and {gpus.told}"
    raise BenchError(
        "--build", name, reason, "measure the server that runs it, with `--url`, or run this on a machine with that GPU"
    )
