"""Stages that measure: differences from the source, and speed."""

from contextlib import suppress
from typing import Any

from gpuserve.kubernetes.spec import plain
from gpuserve_images.errors import ImageError
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.trial import fatal
from gpuserve_images.pipeline.exam import Exams
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import keep_capacity, keep_constant, keep_parity
from gpuserve_images.records import StageRecord, tool_versions
from gpuserve_images.verify.capacity import measure_capacity
from gpuserve_images.verify.in_process import InProcess

NEAR = 1e-5
"""The `scaled_error`, a tenth of fp32's bar, over which an fp32 build is asked where its differences are from."""


def verified(job: Job, onnx: Stage | Source, model: Stage | Source, exams: Exams) -> Stage:
    """Return the stage that measures a build's differences from its source; whether they are small enough is judged elsewhere.

    Args:
        job: What is to be built.
        onnx: The source as ONNX, whose inputs are asked.
        model: The build.
        exams: Gives inputs and the source's own answers.
    """

    def run(work: Work) -> StageRecord:
        exam = exams.judging(work)
        parity = exam.parity(work.before("model").file)
        if job.spec.precision == "fp32" and parity.scaled_error is not None and parity.scaled_error > NEAR:
            # Where the source fails as it is, the build says enough.
            source = work.before("onnx").file
            with suppress(ImageError):
                own = None if fatal(source) else exam.parity(source).scaled_error
                parity = parity.model_copy(update={"source_scaled_error": own})
        keep_parity(parity, work.out)
        if (constant := exam.constant()) is not None:
            keep_constant(constant, work.out)
        return StageRecord(stage="verify", notes=(parity.model_dump_json(),))

    return Stage(
        "verify",
        run,
        version=7,
        inputs=job.sample_inputs("verify"),
        after={"source": job.source, "onnx": onnx, "model": model},
        options=what_is_compared(job),
        tools=tool_versions("onnxruntime", "numpy"),
    )


def timed(job: Job, onnx: Stage | Source, model: Stage | Source, exams: Exams) -> Stage:
    """Return the stage that measures how fast a build is on this machine."""

    def run(work: Work) -> StageRecord:
        exam = exams.of(work)
        model = work.before("model").file
        callee = InProcess(Session(model), exam.requests.tensors)
        capacity = measure_capacity(callee, exam.sizes, job.model.slo, work.progress)
        keep_capacity(capacity, work.out)
        return StageRecord(stage="capacity")

    return Stage(
        "capacity",
        run,
        inputs=job.sample_inputs("verify"),
        after={"onnx": onnx, "model": model},
        options={**what_is_asked(job), "slo": plain(job.model.slo)},
        tools=tool_versions("onnxruntime"),
        shared=False,
    )


def what_is_asked(job: Job) -> dict[str, Any]:
    """Return what of a model's declaration decides the requests that its builds are measured with."""
    return {"batches": list(job.model.verify_batches()), "generate": plain(job.model.verify.generated)}


def what_is_compared(job: Job) -> dict[str, Any]:
    """Return the same for the differences of a build: the outputs that hold classes count too."""
    return {**what_is_asked(job), "classes": list(job.model.verify.classes)}
