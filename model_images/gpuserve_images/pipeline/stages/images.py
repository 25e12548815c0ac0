"""Stages that lay a model out as the files of an image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuserve.kubernetes.spec import plain
from gpuserve_images.layouts.choosing import identity, lay_out, require_layout
from gpuserve_images.layouts.served import ModelFiles, ServedModel, Wishes
from gpuserve_images.pipeline import laid
from gpuserve_images.pipeline.bench import Benches
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import MODEL, Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import ENGINE, SIGNATURE, signature_of
from gpuserve_images.records import StageRecord

WARMUP_SAMPLES = 4
"""Requests that a server warms up with, where it warms up with samples."""


def served_onnx(job: Job, onnx: Stage | Source, model: Stage, benches: Benches) -> Stage:
    """Return the stage that makes a server's own folder of an ONNX model.

    Raises:
        LayoutError: When the server does not serve ONNX, or lacks a feature.
    """

    def run(work: Work) -> StageRecord:
        done = work.before("model")
        beside = [done.folder / name for name in done.record.outputs if name != MODEL and (done.folder / name).is_file()]
        given = ServedModel.of(job.model.name, "onnx", done.file, signature_of(done), beside)
        return _lay_out(job, given, work, {"model": done.folder}, benches)

    return _stage(job, run, "onnx", {"model": model, "onnx": onnx} if _samples(job) else {"model": model})


def served_engine(job: Job, onnx: Stage | Source, engine: Stage, benches: Benches) -> Stage:
    """Return the stage that makes a server's own folder of one TensorRT engine.

    Raises:
        LayoutError: When the server does not serve engines, or lacks a feature.
    """

    def run(work: Work) -> StageRecord:
        done = work.before("model")
        given = ServedModel.of(job.model.name, "tensorrt", done.folder / ENGINE, signature_of(done))
        return _lay_out(job, given, work, {"model": done.folder}, benches)

    return _stage(job, run, "tensorrt", {"model": engine, "onnx": onnx} if _samples(job) else {"model": engine})


def served_source(job: Job) -> Stage:
    """Return the stage that makes a server's own folder of the source model, as it is.

    Raises:
        LayoutError: When the server does not serve that format, or lacks a feature.
    """

    def run(work: Work) -> StageRecord:
        done = work.before("model")
        files = job.files(work.progress)
        place = ModelFiles.of(files.entry, files.external)
        signature = signature_of(done) if files.format == "onnx" else None
        given = ServedModel(job.model.name, files.format, {1: place}, signature)
        return _lay_out(job, given, work, {"model": files.root}, None)

    return _stage(job, run, job.format, {"model": job.source})


def gathered(job: Job, engines: Mapping[str, Stage]) -> Stage:
    """Return the stage that puts the engines of several architectures together: `<architecture>/model.engine`."""

    def run(work: Work) -> StageRecord:
        done = {architecture: work.before(architecture) for architecture in engines}
        files: dict[str, Path | bytes] = {f"{name}/{ENGINE}": engine.folder / ENGINE for name, engine in done.items()}
        files[SIGNATURE] = next(iter(done.values())).folder / SIGNATURE
        laid.save(files, work.out, {name: engine.folder for name, engine in done.items()})
        return StageRecord(stage="layout", options={"architectures": list(engines)})

    return Stage("layout", run, after=dict(engines), options={"engines": job.spec.engine})


def _stage(job: Job, run: Any, form: str, after: Mapping[str, Stage | Source]) -> Stage:
    require_layout(job.target.server, form, job.model.layout)
    options = {
        "name": job.model.name,
        "format": form,
        "server": job.target.server,
        "kind": job.target.kind,
        "batch": plain(job.model.batch),
        "layout": plain(job.model.layout),
        "samples": {**job.sample_inputs("verify"), "generate": plain(job.model.verify.generated)} if _samples(job) else None,
    }
    return Stage("layout", run, after=after, options=options, tools=identity(job.target.server))


def _samples(job: Job) -> bool:
    """Whether a server warms up with samples, so that they are content of the image."""
    return job.model.layout.warmup == "samples" and job.spec.engine != "native"


def _lay_out(job: Job, model: ServedModel, work: Work, folders: Mapping[str, Path], benches: Benches | None) -> StageRecord:
    samples = benches.of(work).requests.tensors[:WARMUP_SAMPLES] if benches and _samples(job) else ()
    # Files of this machine are trusted, as `sources` has it.
    trusted = job.model.source.url is None or job.model.source.allow_pickle
    wishes = Wishes(job.model.batch, job.model.layout, job.target, samples, scratch=work.out, allow_pickle=trusted)
    files, record = lay_out(job.target.server, model, wishes)
    laid.save(files, work.out, folders)
    return record
