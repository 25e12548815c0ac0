"""The source's answers to the verification inputs: what every build of a model is compared with."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

from gpuserve_images.export.exporting import source_runner
from gpuserve_images.onnx_model.session import Runner
from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Work
from gpuserve_images.records import Progress
from gpuserve_images.samples.codec import Encoded, encode_all, load_codec
from gpuserve_images.verify.differences import Parity, ParityError
from gpuserve_images.verify.inputs import Requests, verification_inputs
from gpuserve_images.verify.parity import Named, Reference, measure, measure_constant, reference_outputs

ANSWERED_AS_ONNX: Final = ("onnx", "huggingface")
"""Formats of sources that are asked as ONNX; the others answer in their own framework."""


class Exam:
    """What every build of a model is asked, and what the source itself answers; each is made when it is first needed."""

    def __init__(self, job: Job, onnx: Path, progress: Progress) -> None:
        """Ask nothing yet.

        Args:
            job: The build.
            onnx: The source model as an ONNX file: its own, or what it was exported to.
            progress: Told about the work.
        """
        self._job = job
        self._onnx = onnx
        self._progress = progress

    @cached_property
    def signature(self) -> Signature:
        """The source model's inputs and outputs."""
        return self._job.model.batch.seen(read_signature(self._onnx))

    @cached_property
    def requests(self) -> Requests:
        """What is asked.

        Raises:
            CodecError: When samples do not fit the model.
            SourceError: When inputs cannot be generated.
        """
        self._progress("samples", 0, 0)
        job = self._job
        return verification_inputs(job.model, job.build, job.folder, self.signature, self._onnx)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes to ask at."""
        return self._job.model.verify_batches() if self.signature.batched else (1,)

    @cached_property
    def reference(self) -> Reference:
        """The source's answers: of its own framework, where it is not ONNX.

        Raises:
            ParityError: When it gives NaN or infinity, or its rows are not one for each request.
            ExportError: When the framework fails.
        """
        requests = self.requests.tensors
        with self._source() as source:
            return reference_outputs(source, requests, self.sizes, self._progress, batched=self.signature.batched)

    def parity(self, model: Path | Runner, sizes: Sequence[int] = (), every: int = 1) -> Parity:
        """Compare a build with the source.

        Args:
            model: The build: a loaded model, or its ONNX file, which runs in ONNX Runtime on the CPU.
            sizes: Which of `sizes` to compare at. Default: all.
            every: Of how many requests one is asked, where that is alone; all are at other sizes. Default: of 1.

        Raises:
            ParityError: When it has another interface, or gives NaN or infinity.
        """
        other = self.signature.difference(read_signature(model) if isinstance(model, Path) else model.signature)
        if other is not None:
            fix = (
                "Correct what the source's file declares, where the model never had that shape (ONNX Runtime only warns of it); else "
                "report this model: a stage changed its inputs or outputs."
            )
            raise ParityError(f"build {self._job.build}", f"has another interface than its source model: {other}", fix)
        requests = self.requests
        reference = {size: answers for size, answers in self.reference.items() if size in (sizes or self.sizes)}
        if [*reference] != [1]:
            every = 1
        fewer = {size: {name: rows[::every] for name, rows in answers.items()} for size, answers in reference.items()}
        named = Named(requests.names[::every], self._job.model.verify.classes)
        return measure(model, fewer, requests.tensors[::every], named, self._progress)

    def constant(self) -> Parity | None:
        """Return how far from the source a build is that always answers the same; None where no such build could be compared.

        Raises:
            ParityError: When the source's own answers cannot be compared.
        """
        requests = self.requests
        named = Named(classes=self._job.model.verify.classes)
        return measure_constant(self.reference, len(requests.tensors), named, self.signature)

    @contextmanager
    def _source(self) -> Generator[Path | Runner]:
        job = self._job
        if job.format in ANSWERED_AS_ONNX:
            yield self._onnx
        else:
            with source_runner(job.files(self._progress), job.format, job.model.export, folder=job.folder) as runner:
                yield runner


class Exams:
    """The exam of one build, set up by the first stage that needs it."""

    def __init__(self, job: Job) -> None:
        """Set up nothing yet."""
        self._job = job
        self._exam: Exam | None = None

    def of(self, work: Work) -> Exam:
        """Return the exam; the stage must come after one in the role of `onnx`."""
        if self._exam is None:
            self._exam = Exam(self._job, work.before("onnx").file, work.progress)
        return self._exam

    def judging(self, work: Work) -> Exam:
        """Return the exam for a stage that compares with the source; it must come after stages in the roles of `onnx` and `source`.

        The framework of a model that is not ONNX opens its files: they are held, so that nobody collects them meanwhile.
        """
        if self._job.format not in ANSWERED_AS_ONNX:
            work.before("source")
        return self.of(work)


def calibration_samples(job: Job, signature: Signature) -> Encoded:
    """Return the samples that value ranges are measured on.

    Raises:
        CodecError: When they do not fit the model.
    """
    field = f"builds.{job.build}.calibrate.inputs"
    return encode_all(load_codec(job.model.io, job.folder), job.samples.calibrate, signature, field)
