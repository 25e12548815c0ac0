"""Stages that make ONNX files: export, optimise, and precision."""

from collections.abc import Sequence
from pathlib import Path

from gpuserve.kubernetes.spec import plain
from gpuserve_images.export.environments import Framework
from gpuserve_images.export.exporting import export, identity
from gpuserve_images.optimise.graph import level_for, optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.pipeline.exam import Exams, calibration_samples
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import MODEL, Done, Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import keep_signature, signature_of
from gpuserve_images.records import Progress, StageRecord, silent, tool_versions
from gpuserve_images.target import Target

EXPORT = "export"
"""Name of the stage that makes ONNX of a model in another framework."""


def exported(job: Job, kind: Framework) -> Stage:
    """Return the stage that makes ONNX of a model in another framework.

    Raises:
        ExportError: When the framework is not installed.
    """

    def run(work: Work) -> StageRecord:
        work.before("source")
        files = job.files(work.progress)
        return export(files, kind, job.model.export, work.out / MODEL, work.progress, folder=job.folder)

    options = {"export": identity(kind, job.model.export, job.folder)}
    return Stage(EXPORT, run, after={"source": job.source}, options=options, version=3)


def level_of(job: Job) -> str:
    """Return how far a build's model is optimised."""
    return level_for(job.spec.optimise, job.processor, job.spec.precision)


def optimised(job: Job, before: Stage | Source) -> Stage:
    """Return the stage of ONNX Runtime's graph optimisation."""
    level, gpu = level_of(job), job.processor.kind == "gpu"

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        return optimise(model.file, work.out / MODEL, level, gpu=gpu)

    tools = tool_versions("onnx", "onnxruntime")
    return Stage("optimise", run, version=6, after={"model": before}, options={"level": level, "gpu": gpu}, tools=tools)


def halved(job: Job, onnx: Stage | Source, before: Stage, exams: Exams) -> Stage:
    """Return the stage of FP16; ranges are measured on the verification inputs.

    Args:
        job: What is to be built.
        onnx: The model as ONNX, whose inputs are asked.
        before: The model to convert.
        exams: Gives the inputs.
    """

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        samples = exams.of(work).requests.tensors
        batched = exams.of(work).signature.batched
        return to_fp16(model.file, work.out / MODEL, samples=samples, batched=batched, keep=job.spec.keep_fp32)

    return Stage(
        "fp16",
        run,
        version=4,
        inputs=job.sample_inputs("verify"),
        after={"onnx": onnx, "model": before},
        options={"keep": list(job.spec.keep_fp32), "axis": job.model.batch.axis, "generate": plain(job.model.verify.generated)},
        tools=tool_versions("onnx", "onnxruntime"),
    )


def statically_quantised(job: Job, before: Stage | Source, calibrate: CalibrateSpec, target: Target) -> Stage:
    """Return the stage of INT8 with measured ranges."""

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        return write_int8(job, model, work.out / MODEL, calibrate, target, progress=work.progress)

    return Stage(
        "quantise",
        run,
        version=4,
        inputs=job.sample_inputs("calibrate"),
        after={"model": before},
        options={
            "mode": "static",
            "kind": target.kind,
            "axis": job.model.batch.axis,
            **_kept(job),
            **plain(calibrate.model_copy(update={"inputs": ()})),
        },
        tools=tool_versions("onnx", "onnxruntime"),
    )


def dynamically_quantised(job: Job, before: Stage | Source) -> Stage:
    """Return the stage of INT8 whose ranges are found anew for each request."""

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        return write_int8(job, model, work.out / MODEL, None, job.target)

    tools = tool_versions("onnx", "onnxruntime")
    return Stage("quantise", run, version=6, after={"model": before}, options={"mode": "dynamic", **_kept(job)}, tools=tools)


def write_int8(  # noqa: PLR0913 - a stage is a function of its files and its options
    job: Job,
    model: Done,
    out: Path,
    calibrate: CalibrateSpec | None,
    target: Target,
    *,
    keep: Sequence[str] = (),
    progress: Progress = silent,
) -> StageRecord:
    """Quantise a model as its build says, but for some layers more.

    Args:
        job: What is to be built.
        model: The model to quantise.
        out: Where to write the result.
        calibrate: How ranges are measured. None: they are found anew for each request.
        target: Where it will run.
        keep: What stays in fp32 besides what the build keeps.
        progress: Told about each calibration batch.
    """
    keep = (*job.spec.keep_fp32, *keep)
    if calibrate is None:
        return quantise_dynamic(model.file, out, keep=keep)
    signature = job.model.batch.seen(signature_of(model))
    samples = calibration_samples(job, signature)
    return quantise_static(
        model.file,
        out,
        samples.tensors,
        calibrate,
        target,
        keep=keep,
        names=samples.names,
        batched=signature.batched,
        progress=progress,
    )


def _kept(job: Job) -> dict[str, list[str]]:
    """Return what is named to be kept; nothing where nothing is, so that keys of before hold."""
    return {"keep": list(job.spec.keep_fp32)} if job.spec.keep_fp32 else {}
