"""What `gpuserve bench` measures, and with which requests."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve.cli.bench_options import BenchError, duration, ranges, shapes

if TYPE_CHECKING:
    from gpuserve_images.records import Progress
    from gpuserve_images.samples.codec import Tensors
    from gpuserve_images.spec import BuildSpec, ModelSpec
    from gpuserve_images.verify.load import Callee
    from gpuserve_images.verify.report import VerifyReport
    from gpuserve_images.verify.spec import GenerateSpec, SloSpec


@dataclass(frozen=True)
class Wish:
    """The options of the command, read: see `gpuserve bench --help`."""

    file: Path | None
    url: str
    model: str
    host: str
    protocol: str
    build: str
    concurrencies: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float
    warm_up: float
    slo: str
    threads: int
    shapes: tuple[str, ...]
    ranges: tuple[str, ...]
    seed: int
    timeout: float

    def declared(self) -> "ModelSpec | None":
        """Return the model's YAML, or None where none was given."""
        from gpuserve_images.spec import load_model

        if self.file is None or self.file.suffix not in {".yaml", ".yml"}:
            return None
        return load_model(self.file)

    def name(self) -> str:
        """Return the name of the model: the YAML's, else the file's, else that in the server; empty where nothing was named."""
        declared = self.declared()
        if declared is not None:
            return declared.name
        return self.file.stem if self.file is not None and not self.url else self.model

    def generate(self, declared: "ModelSpec | None") -> "GenerateSpec | None":
        """Return how inputs are made up, or None where the YAML's samples are used."""
        from gpuserve_images.verify.spec import GenerateSpec

        said = {"shapes": shapes(self.shapes), "ranges": ranges(self.ranges)}
        if declared is None:
            return GenerateSpec.parse({"seed": self.seed, **said})
        spec = declared.verify.generated
        if spec is None:
            return GenerateSpec.parse({"seed": self.seed, **said}) if any(said.values()) else None
        merged = {"shapes": {**spec.shapes, **said["shapes"]}, "ranges": {**spec.ranges, **said["ranges"]}}
        return GenerateSpec.parse({"count": spec.count, "seed": self.seed or spec.seed, **merged})

    def promise(self, declared: "ModelSpec | None") -> "SloSpec | None":
        """Return the latency bound: the option's, else the YAML's."""
        from gpuserve_images.verify.spec import SloSpec

        if self.slo:
            return SloSpec(latency_p95=duration("--slo", self.slo))
        return declared.slo if declared else None


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
    from gpuserve_images.verify.grpc_server import GrpcServer
    from gpuserve_images.verify.http_server import HttpServer
    from gpuserve_images.verify.remote import Remote

    if wish.build or wish.threads:
        option = "--build" if wish.build else "--threads"
        raise BenchError(option, None, "means a model in this process, and `--url` a server", "leave one of the two out")
    name = wish.model or (declared.name if declared else "")
    if not name:
        raise BenchError("--model", None, "is required with `--url`", "add `--model NAME`, the model's name in the server")
    remote = Remote(wish.url, name, protocol=wish.protocol, host=wish.host or None, timeout=wish.timeout)
    server = GrpcServer(remote) if wish.protocol == "grpc" else HttpServer(remote)
    generate_spec = wish.generate(declared)
    if wish.file is None:
        from gpuserve_images.verify.generated import generate
        from gpuserve_images.verify.spec import GenerateSpec

        requests: Sequence[Tensors] = generate(server.signature(), generate_spec or GenerateSpec(), batch=max(wish.batches))
    else:
        source = _source(wish, declared, progress)
        assert source is not None  # noqa: S101 - without `--build`, which a server does not take, it is an ONNX file
        requests = _requests(wish, declared, source)
    # Servers may know a model by another name than its images.
    return declared.name if declared else name, server.sending(requests)


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
    source = _source(wish, declared, progress)
    assert source is not None  # noqa: S101 - a source that is no ONNX file comes with a build
    yield (declared.name if declared else wish.file.stem), _session(wish, source, _requests(wish, declared, source))


def _session(wish: Wish, file: Path, requests: "Sequence[Tensors]") -> "Callee":
    from gpuserve_images.onnx_model.session import Session
    from gpuserve_images.verify.in_process import InProcess

    return InProcess(Session(file, threads=wish.threads), requests, threads=wish.threads)


def _source(wish: Wish, declared: "ModelSpec | None", progress: "Progress") -> Path | None:
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
    if files.format == "onnx":
        return files.entry
    if wish.build:
        return None
    reason = f"is required: the source is a {files.format} model, and what is measured is ONNX"
    raise BenchError("--build", None, reason, f"add for example `--build {build}`")


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
    from gpuserve_images.verify.in_process import InProcess

    assert wish.file is not None  # noqa: S101 - the YAML came from it
    spec = require_build(declared, wish.build)
    if spec.engine == "native":
        reason = "serves the source model as it is, with the server's own framework"
        raise BenchError("--build", wish.build, reason, "measure the server that runs it, with `--url`")
    compiled = spec.engine in COMPILED
    target = Target("gpu", _gpu_here(wish.build, spec)) if compiled else Target()
    source = _source(wish, declared, progress)
    with Runner(cache_folder(), None, progress) as runner:
        job = Job(declared, wish.build, wish.file.parent, target)
        made = make(plan(job), runner)
        file = runner.get(made.way.model).file if made.way.model else made.model.file
        requests = _requests(wish, declared, source or file)
        if not compiled:
            yield _session(wish, file, requests)
            return
        with engine_here(job, made.model, job.architectures[0]) as (engine, gpu):
            yield InProcess(engine, requests, gpu=gpu)


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


def _requests(wish: Wish, declared: "ModelSpec | None", source: Path) -> "Sequence[Tensors]":
    """Return what callers send: the YAML's samples, or generated inputs."""
    from gpuserve_images.onnx_model.signature import read_signature
    from gpuserve_images.verify.generated import generate, table_sizes
    from gpuserve_images.verify.inputs import verification_inputs

    spec = wish.generate(declared)
    signature = read_signature(source)
    if declared is not None:
        signature = declared.batch.seen(signature)
        if signature.alone and max(wish.batches) > 1:
            value = ",".join(map(str, wish.batches))
            raise BenchError(
                "--batch", value, "is of requests that the model's YAML keeps apart", "leave it out, or `batch: none`"
            )
    if spec is not None:
        return generate(signature, spec, table_sizes(source), max(wish.batches))
    assert declared is not None  # noqa: S101 - without a YAML, inputs are generated
    assert wish.file is not None  # noqa: S101 - the YAML came from it
    build = wish.build or next(iter(declared.builds))
    return verification_inputs(declared, build, wish.file.parent, signature, source).tensors
