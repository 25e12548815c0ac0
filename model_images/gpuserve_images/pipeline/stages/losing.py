"""The stage that is run when a build in a lower precision has missed a bar: which of its layers are to blame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.disks import scratch
from gpuserve_images.onnx_model.session import Runner
from gpuserve_images.optimise.half import prepared as prepared_for_fp16
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.preparing import is_large, prepared
from gpuserve_images.optimise.saving import put_back
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.optimise.switched import Switched, SwitchedRunner
from gpuserve_images.optimise.switched_fp16 import with_fp16
from gpuserve_images.optimise.switched_int8 import with_int8
from gpuserve_images.pipeline.exam import Exam, Exams
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import MODEL, Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import keep_losses
from gpuserve_images.pipeline.stages.measures import what_is_compared
from gpuserve_images.pipeline.stages.models import write_int8
from gpuserve_images.records import StageRecord, tool_versions
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.judging import judge
from gpuserve_images.verify.losses import Losses, fewest, pace, proved, ranked, stride


@dataclass(frozen=True)
class Lowering:
    """How a model became one in a lower precision.

    Attributes:
        made: The stage that did it.
        calibrate: How ranges were measured for static INT8; None for what has no ranges.
        target: Where it will run.
    """

    made: Stage
    calibrate: CalibrateSpec | None
    target: Target


def blamed(job: Job, onnx: Stage | Source, lowering: Lowering, exams: Exams) -> Stage | None:
    """Return the stage that finds the layers that lose most, and how few of them have to stay in fp32; None where all of them are.

    Args:
        job: What was built.
        onnx: The source as ONNX, whose inputs are asked.
        lowering: How it was lowered.
        exams: Gives inputs and the source's own answers.
    """
    if job.spec.precision == "fp32":
        return None

    def run(work: Work) -> StageRecord:
        keep_losses(_losses(job, work, lowering, exams), work.out)
        return StageRecord(stage="losses")

    return Stage(
        "losses",
        run,
        inputs=job.sample_inputs("verify"),
        after={"source": job.source, "onnx": onnx, "model": lowering.made.after["model"], "lowered": lowering.made},
        options={**what_is_compared(job), "bars": job.model.bars(job.build).stated()},
        tools=tool_versions("onnx", "onnxruntime", "numpy"),
        shared=False,
    )


def _losses(job: Job, work: Work, lowering: Lowering, exams: Exams) -> Losses:
    # Both precisions of it are in memory at once.
    if is_large(work.before("model").file):
        return Losses()
    with scratch(work.out) as folder:
        return _Search(job, work, lowering, exams.judging(work), folder).losses()


@dataclass(frozen=True)
class _Search:
    """What is looked at, and a folder for what need not stay."""

    job: Job
    work: Work
    lowering: Lowering
    exam: Exam
    folder: Path

    def losses(self) -> Losses:
        found = self._supposed()
        return found.model_copy(
            update={"keep": proved([*found.layers], found.keep, lambda kept: self._near(self._again(kept)))}
        )

    def _supposed(self) -> Losses:
        """Return what follows from the model in both precisions, which needs memory as long as it is loaded."""
        both = self._both(self.folder / "both.onnx")
        runner = SwitchedRunner(both, self.exam.signature)
        requests = self.exam.requests.tensors
        seconds = pace(runner, requests[0])
        layers = ranked(runner, both.layers, requests, seconds, self.work.progress)
        every = stride(len(requests), len(layers), seconds)
        keep = fewest(tuple(layers), lambda kept: self._near(runner.but(kept), self.exam.sizes[:1], every))
        return Losses(layers=layers, keep=keep)

    def _near(self, build: Path | Runner, sizes: Sequence[int] = (), every: int = 1) -> bool:
        job = self.job
        try:
            judge(self.exam.parity(build, sizes, every), job.model.bars(job.build), job.build, job.spec.precision)
        except ParityError:
            return False
        return True

    def _both(self, out: Path) -> Switched:
        import onnx

        model, lowered = self.work.before("model"), self.work.before("lowered")
        if self.job.spec.precision == "fp16":
            plain, outputs = prepared_for_fp16(model.file)
            put_back(plain, outputs)
            return with_fp16(plain, out, lowered.record.options["kept_in_fp32"])
        calibrate, keep = self.lowering.calibrate, self.job.spec.keep_fp32
        keep_head = calibrate is not None and calibrate.keep_head
        with prepared(model.file, out, keep=keep, keep_head=keep_head, dynamic=calibrate is None) as ready:
            return with_int8(onnx.load(ready.file), onnx.load(lowered.file), out, ready.left)

    def _again(self, keep: Sequence[str]) -> Path:
        """Return the model lowered once more, with more of it kept."""
        model, out, job = self.work.before("model"), self.folder / MODEL, self.job
        if job.spec.precision == "fp16":
            samples, batched = self.exam.requests.tensors, self.exam.signature.batched
            to_fp16(model.file, out, samples=samples, batched=batched, keep=(*job.spec.keep_fp32, *keep))
        else:
            write_int8(job, model, out, self.lowering.calibrate, self.lowering.target, keep=keep, progress=self.work.progress)
        return out
