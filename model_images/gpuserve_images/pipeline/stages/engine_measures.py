"""Stages that run an engine, where its GPU is: differences from the source, and speed."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gpuserve.kubernetes.spec import plain
from gpuserve_images.compile.builders import builder_version
from gpuserve_images.compile.running import EngineRunner, loaded, require_runnable
from gpuserve_images.pipeline.exam import Exam, Exams
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Done, Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import ENGINE, keep_capacity, keep_parity, signature_of
from gpuserve_images.pipeline.stages.measures import what_is_asked, what_is_compared
from gpuserve_images.records import StageRecord, tool_versions
from gpuserve_images.verify.capacity import measure_capacity
from gpuserve_images.verify.in_process import InProcess


@dataclass(frozen=True)
class EngineMeasures:
    """The stages that run one engine; only a machine with its GPU is ready for them.

    Attributes:
        verify: The stage that compares it with the source.
        capacity: The stage that times it.
    """

    verify: Stage
    capacity: Stage


def measured(job: Job, onnx: Stage | Source, engine: Stage, architecture: str, exams: Exams) -> EngineMeasures:
    """Return the stages that run an engine.

    Args:
        job: What is to be built.
        onnx: The source as ONNX, whose inputs are asked.
        engine: The stage that makes the engine.
        architecture: What it is built for.
        exams: Gives inputs and the source's own answers.
    """
    spec = job.spec

    def ready() -> None:
        require_runnable(spec.engine, architecture, spec.compile)

    def compare(work: Work) -> StageRecord:
        done, exam = work.before("engine"), exams.judging(work)
        with engine_here(job, done, architecture) as (runner, _):
            parity = exam.parity(runner, _sizes(done, exam))
        keep_parity(parity, work.out)
        return StageRecord(stage="verify-engine", options={"architecture": architecture}, notes=(parity.model_dump_json(),))

    def time(work: Work) -> StageRecord:
        done, exam = work.before("engine"), exams.of(work)
        with engine_here(job, done, architecture) as (runner, gpu):
            callee = InProcess(runner, exam.requests.tensors, gpu=gpu)
            capacity = measure_capacity(callee, _sizes(done, exam), job.model.slo, work.progress)
        keep_capacity(capacity, work.out)
        return StageRecord(stage="time-engine", options={"architecture": architecture})

    compared = {"architecture": architecture, **what_is_compared(job)}
    inputs = job.sample_inputs("verify")
    tools = {spec.engine: builder_version(spec.engine), **tool_versions("onnxruntime", "numpy")}
    after: Mapping[str, Stage | Source] = {"source": job.source, "onnx": onnx, "engine": engine}
    timed: Mapping[str, Any] = {"architecture": architecture, **what_is_asked(job), "slo": plain(job.model.slo)}
    return EngineMeasures(
        verify=Stage(
            "verify-engine", compare, version=4, inputs=inputs, after=after, options=compared, tools=tools, ready=ready
        ),
        capacity=Stage("time-engine", time, inputs=inputs, after=after, options=timed, tools=tools, shared=False, ready=ready),
    )


def _sizes(engine: Done, exam: Exam) -> tuple[int, ...]:
    """Return the batch sizes to ask an engine at: those of the build's exam that its profiles allow."""
    if not exam.signature.batched:
        return exam.sizes
    profiles = engine.record.options["profiles"].values()
    allowed = [size for size in exam.sizes if all(smallest[0] <= size <= largest[0] for smallest, _, largest in profiles)]
    return tuple(allowed) or exam.sizes[:1]


@contextmanager
def engine_here(job: Job, engine: Done, architecture: str) -> Generator[tuple[EngineRunner, str]]:
    """Give an engine on a GPU of this machine, and what runs it in words.

    Args:
        job: The build that it is of.
        engine: The stage that made it.
        architecture: What it was built for.

    Raises:
        CompileError: When its GPU, its library or CUDA's bindings are not here, or it cannot be loaded.
    """
    spec = job.spec
    with loaded(spec.engine, engine.folder / ENGINE, architecture, spec.compile, signature_of(engine)) as runner:
        yield (
            runner,
            f"{spec.engine} {builder_version(spec.engine)}, one instance on {runner.gpu}, copies to and from it included",
        )
