"""The stage that times an ensemble: clients wait for all its models, so one of them alone says nothing of its image."""

from collections.abc import Mapping, Sequence

from gpuserve.kubernetes.spec import plain
from gpuserve_images.errors import ImageError
from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.pipeline.company import Member
from gpuserve_images.pipeline.exam import Exam, Exams
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import keep_capacity
from gpuserve_images.pipeline.stages.measures import what_is_asked
from gpuserve_images.records import StageRecord, tool_versions
from gpuserve_images.verify.capacity import Capacity, measure_capacity
from gpuserve_images.verify.ensemble import asked_models, ensemble_in_process


def timed(job: Job, onnx: Stage | Source, model: Stage | Source, exams: Exams, company: Sequence[Member]) -> Stage:
    """Return the stage that measures how fast a build's ensemble is on this machine.

    What its models are asked one by one is what the ensemble is asked. Where that does not go together (sequences of other lengths,
    say), the image has no measured capacity, and the reason is noted: the ensemble may be right all the same.

    Args:
        job: What is to be built; its model has an ensemble.
        onnx: The source as ONNX, whose inputs are asked.
        model: The build.
        exams: Gives inputs.
        company: The other builds of the image.
    """
    spec = job.model.layout.ensemble
    assert spec is not None  # noqa: S101 - the caller's own rule, said to the type checker
    # Other versions of its own model may be in the image too, and a request goes to one.
    members = {member.job.model.name: member for member in company if member.job.model.name != job.model.name}
    asked = asked_models(spec)

    def run(work: Work) -> StageRecord:
        exam = exams.of(work)
        others = {name: Exam(one.job, work.before(f"{one.role}-onnx").file, work.progress) for name, one in members.items()}
        files = {name: work.before(one.role).file for name, one in members.items()}
        all_exams = {job.model.name: exam, **others}
        try:
            given = {name: all_exams[name].requests for name in asked}
            callee = ensemble_in_process(spec, {job.model.name: work.before("model").file, **files}, given)
            capacity = measure_capacity(callee, _sizes(spec, exam, others, members), job.model.slo, work.progress)
        except LayoutError:
            raise
        except ImageError as error:
            note = f"ensemble {spec.name} could not be measured: {error}"
            capacity = Capacity.of((), job.model.slo, where=f"ensemble {spec.name}", notes=(note,))
        keep_capacity(capacity, work.out)
        return StageRecord(stage="capacity")

    own = {"onnx": onnx, "model": model}
    theirs = {one.role: one.model for one in members.values()}
    sources = {f"{one.role}-onnx": one.onnx for one in members.values()}
    return Stage(
        "capacity",
        run,
        inputs=job.sample_inputs("verify") | {one.role: one.job.sample_inputs("verify") for one in members.values()},
        after={**own, **theirs, **sources},
        options={
            **what_is_asked(job),
            "slo": plain(job.model.slo),
            "ensemble": plain(spec),
            **{one.role: {**what_is_asked(one.job), "batch": plain(one.job.model.batch)} for one in members.values()},
        },
        tools=tool_versions("onnxruntime"),
        shared=False,
    )


def _sizes(spec: EnsembleSpec, exam: Exam, others: Mapping[str, Exam], members: Mapping[str, Member]) -> tuple[int, ...]:
    """Return the batch sizes of the build's exam that all models of the ensemble take."""
    used = {step.model for step in spec.steps}
    if not all(one.signature.batched for one in (exam, *(other for name, other in others.items() if name in used))):
        return (1,)
    largest = min((members[name].job.model.batch.max for name in used if name in members), default=exam.sizes[-1])
    return tuple(size for size in exam.sizes if size <= largest) or (1,)
