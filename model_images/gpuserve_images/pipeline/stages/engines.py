"""Stages that make engines."""

from gpuserve.kubernetes.spec import plain
from gpuserve_images.bases.serving import DEFAULT_TENSORRT
from gpuserve_images.compile.builders import ABSENT, builder_module, builder_version, wheel
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.compile.tensorrt import compile_engine, require_buildable
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import ENGINE, keep_signature
from gpuserve_images.records import StageRecord, silent


def require_profiles(job: Job) -> None:
    """Check the shapes that engines shall accept against the model, before anything is built: for a model of this machine.

    One that is still to be fetched or exported is checked when it is there.

    Raises:
        CompileError: When an axis is free that nothing bounds, or a profile contradicts the model.
        SourceError: When the model cannot be read.
    """
    if job.format == "onnx" and job.model.source.url is None:
        signature = read_signature(job.files(silent).entry)
        profiles(signature, job.model.batch, job.spec.profiles)


def compiled(job: Job, before: Stage | Source, architecture: str) -> Stage:
    """Return the stage that makes the engine of one GPU architecture.

    Raises:
        CompileError: When its builder is not installed.
    """
    spec = job.spec

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        shapes = profiles(keep_signature(model, work.out), job.model.batch, spec.profiles)
        trt = builder_module(spec.engine)
        out = work.out / ENGINE
        return compile_engine(trt, model.file, out, architecture=architecture, shapes=shapes, options=spec.compile)

    def ready() -> None:
        require_buildable(builder_module(spec.engine), architecture, spec.compile)

    # Whether measured times are kept may change which kernels are chosen, and no answer.
    options = {name: value for name, value in plain(spec.compile).items() if name != "timing_cache"}
    return Stage(
        "compile",
        run,
        version=2,
        after={"model": before},
        options={
            "engine": spec.engine,
            "architecture": architecture,
            "batch": [job.model.batch.axis, job.model.batch.max, *job.model.batch.sizes],
            "profiles": plain(spec.profiles),
            "compile": options,
        },
        tools={spec.engine: _naming_version(spec.engine)},
        ready=ready,
    )


def _naming_version(engine: str) -> str:
    """Return the installed version of an engine's builder, which is part of the names of its engines and their images.

    Raises:
        CompileError: When it is not installed: the name would be of an image that nobody makes.
    """
    found = builder_version(engine)
    if found == ABSENT:
        reason = "names its image by its builder's version, and the builder is not installed here"
        fix = f"Install what builds it: pip install 'gpuserve[{engine}]'"
        if engine == "tensorrt":
            alone = wheel("tensorrt-cu{cuda}", DEFAULT_TENSORRT)
            fix += f"; where nothing is built its name is enough: pip install --no-deps '{alone}'"
        raise CompileError("engine", reason, fix, value=engine)
    return found
