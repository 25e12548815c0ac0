"""The ONNX Runtime path: source, optimise, quantise where asked, verify, time."""

from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.optimise.graph import level_for, optimise
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.pipeline.key import require_build
from gpuserve_images.records import Progress, StageRecord, silent
from gpuserve_images.samples.codec import Encoded, Tensors, encode_all, load_codec
from gpuserve_images.samples.picking import SampleSet, sample_set
from gpuserve_images.sources.resolving import resolve
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.capacity import Capacity, measure_capacity
from gpuserve_images.verify.parity import Parity, ParityError, Reference, judge, measure, reference_outputs


@dataclass(frozen=True)
class OnnxBuild:
    """A finished, verified ONNX file.

    Attributes:
        signature: Its inputs and outputs, the same as its source's.
        quantisation: `none`, `static` or `dynamic`.
        parity: Its differences from the source.
        records: What each stage did.
        capacity: Its measured speed.
    """

    signature: Signature
    quantisation: str
    parity: Parity
    records: tuple[StageRecord, ...]
    capacity: Capacity


def build_onnx(  # noqa: PLR0913 - a stage is a function of its files and its options
    model: ModelSpec, build: str, *, folder: Path, out: Path, target: Target, progress: Progress = silent
) -> OnnxBuild:
    """Write a verified model.

    INT8 is tried with static ranges first; where that misses a bar, with dynamic ones, which is slower and nearer to the source.

    Args:
        model: The model.
        build: Name of the build.
        folder: Folder of the model's YAML file.
        out: Where to write the ONNX file.
        target: Where it will run.
        progress: Told about each stage.

    Raises:
        SourceError: When the model or its samples are unusable.
        ParityError: When no way of building it meets its bars.
    """
    progress("source", 0, 0)
    source = resolve(model.source, folder)
    check(source.path)
    bench = _Bench.prepare(model, build, source.path, folder, progress)
    records = [source.record]
    spec = require_build(model, build)
    if spec.calibrate is None:
        progress("optimise", 0, 0)
        records.append(optimise(source.path, out, level_for(spec.optimise, target)))
        quantisation, parity, record = "none", *bench.verify(out)
        records.append(record)
    else:
        try:
            samples = bench.calibration()
            records.append(quantise_static(source.path, out, samples, spec.calibrate, target, progress=progress))
            quantisation, parity, record = "static", *bench.verify(out)
        except ParityError as static:
            progress("quantise", 0, 0)
            records.append(quantise_dynamic(source.path, out))
            quantisation, parity, record = "dynamic", *bench.verify(out, after=static)
        records.append(record)
    progress("capacity", 0, 0)
    capacity = measure_capacity(out, bench.samples.tensors, tuple(bench.reference), model.slo)
    return OnnxBuild(bench.signature, quantisation, parity, tuple(records), capacity)


@dataclass(frozen=True)
class _Bench:
    """The source's answers to the verification samples, and how to compare a build with them."""

    model: ModelSpec
    build: str
    folder: Path
    signature: Signature
    files: SampleSet
    samples: Encoded
    reference: Reference
    progress: Progress

    @classmethod
    def prepare(cls, model: ModelSpec, build: str, source: Path, folder: Path, progress: Progress) -> "_Bench":
        signature = read_signature(source)
        files = sample_set(model, build, folder)
        progress("samples", 0, 0)
        samples = encode_all(load_codec(model.io, folder), files.verify, signature, "verify.inputs")
        sizes = model.verify_batches() if signature.batched else (1,)
        reference = reference_outputs(source, samples.tensors, sizes, progress)
        return cls(model, build, folder, signature, files, samples, reference, progress)

    def calibration(self) -> tuple[Tensors, ...]:
        codec = load_codec(self.model.io, self.folder)
        field = f"builds.{self.build}.calibrate.inputs"
        return encode_all(codec, self.files.calibrate, self.signature, field).tensors

    def verify(self, path: Path, after: ParityError | None = None) -> tuple[Parity, StageRecord]:
        """Measure and judge a file; `after` is why an earlier way was given up."""
        built = read_signature(path)
        if not self.signature.same_interface(built):
            reason = "has another interface than its source model"
            raise ParityError(f"build {self.build}", reason, "Report this model: a stage changed its inputs or outputs.")
        names = [file.name for file in self.samples.files]
        parity = measure(path, self.reference, self.samples.tensors, names=names, progress=self.progress)
        bars = self.model.bars(self.build)
        try:
            judge(parity, bars, self.build)
        except ParityError as error:
            if after is None:
                raise
            value = f"static INT8: {after.value}; dynamic INT8: {error.value}"
            raise ParityError(error.where, error.reason, error.fix, value=value) from error
        notes = (f"static INT8 missed a bar: {after.value}",) if after else ()
        record = StageRecord(
            stage="verify", options={"bars": bars.stated()}, outputs={}, inputs={}, notes=(*notes, parity.model_dump_json())
        )
        return parity, record
