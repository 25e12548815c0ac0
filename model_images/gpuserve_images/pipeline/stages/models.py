"""Stages that make ONNX files: export, optimise, and precision."""

from gpuserve.kubernetes.spec import plain
from gpuserve_images.export.environments import Framework
from gpuserve_images.export.exporting import export, identity
from gpuserve_images.optimise.graph import level_for, optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.pipeline.bench import Benches, calibration_samples
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import MODEL, Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import keep_signature
from gpuserve_images.records import StageRecord, tool_versions
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


def optimised(job: Job, before: Stage | Source, target: Target) -> Stage:
    """Return the stage of ONNX Runtime's graph optimisation."""
    level, gpu = level_for(job.spec.optimise, target, job.spec.precision), target.kind == "gpu"

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        return optimise(model.file, work.out / MODEL, level, gpu=gpu)

    tools = tool_versions("onnx", "onnxruntime")
    return Stage("optimise", run, version=4, after={"model": before}, options={"level": level, "gpu": gpu}, tools=tools)


def halved(job: Job, onnx: Stage | Source, before: Stage, benches: Benches) -> Stage:
    """Return the stage of FP16; ranges are measured on the verification inputs.

    Args:
        job: What is to be built.
        onnx: The model as ONNX, whose inputs are asked.
        before: The model to convert.
        benches: Gives the inputs.
    """

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        samples = benches.of(work).requests.tensors
        batched = benches.of(work).signature.batched
        return to_fp16(model.file, work.out / MODEL, samples=samples, batched=batched, keep=job.spec.keep_fp32)

    return Stage(
        "fp16",
        run,
        version=3,
        inputs=job.sample_inputs("verify"),
        after={"onnx": onnx, "model": before},
        options={"keep": list(job.spec.keep_fp32), "axis": job.model.batch.axis, "generate": plain(job.model.verify.generated)},
        tools=tool_versions("onnx", "onnxruntime"),
    )


def statically_quantised(job: Job, before: Stage | Source, calibrate: CalibrateSpec, target: Target) -> Stage:
    """Return the stage of INT8 with measured ranges."""

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        signature = job.model.batch.seen(keep_signature(model, work.out))
        samples = calibration_samples(job, signature)
        out = work.out / MODEL
        return quantise_static(
            model.file,
            out,
            samples.tensors,
            calibrate,
            target,
            names=[file.name for file in samples.files],
            batched=signature.batched,
            progress=work.progress,
        )

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
            **plain(calibrate.model_copy(update={"inputs": ()})),
        },
        tools=tool_versions("onnx", "onnxruntime"),
    )


def dynamically_quantised(before: Stage | Source) -> Stage:
    """Return the stage of INT8 whose ranges are found anew for each request."""

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        keep_signature(model, work.out)
        return quantise_dynamic(model.file, work.out / MODEL)

    tools = tool_versions("onnx", "onnxruntime")
    return Stage("quantise", run, version=5, after={"model": before}, options={"mode": "dynamic"}, tools=tools)
