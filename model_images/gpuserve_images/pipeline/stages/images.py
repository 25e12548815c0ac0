"""Stages that lay a model out as the files of an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpuserve.kubernetes.spec import plain
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.layouts.choosing import identity, lay_out, lay_out_ensemble, require_layout
from gpuserve_images.layouts.found import with_found_outputs
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.onnx_model.trial import fatal
from gpuserve_images.pipeline import laid
from gpuserve_images.pipeline.company import Member, own_number, require_alone, require_offered
from gpuserve_images.pipeline.exam import Exams
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import MODEL, Done, Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import ENGINE, SIGNATURE, signature_of
from gpuserve_images.records import StageRecord, tool_versions

WARMUP_SAMPLES = 4
"""Requests that a server warms up with, where it warms up with samples."""


def served_onnx(job: Job, onnx: Stage | Source, model: Stage, exams: Exams, company: Sequence[Member]) -> Stage:
    """Return the stage that makes a server's own folder of an ONNX model, and of what goes into the same image.

    Raises:
        LayoutError: When the server does not serve ONNX, or lacks a feature.
    """

    def run(work: Work) -> StageRecord:
        done = {"model": work.before("model"), **{member.role: work.before(member.role) for member in company}}
        folders = {role: each.folder for role, each in done.items()}
        given = _versions(job, done, company)
        wishes = _wishes(job, work, exams)
        ensemble = job.model.layout.ensemble
        if ensemble is None:
            files, record = lay_out(job.target.server, given, wishes)
        else:
            models = {job.model.name: (given, wishes)}
            for member in company:
                if member.job.model.name != job.model.name:
                    other = _versions(member.job, {"model": done[member.role]}, ())
                    models[member.job.model.name] = (other, _wishes(member.job, work, None))
            files, record = lay_out_ensemble(job.target.server, ensemble, models)
        laid.save(files, work.out, folders)
        return record

    for member in company:
        require_offered(member.job)
    after = {"model": model, **({"onnx": onnx} if _samples(job) else {}), **{each.role: each.model for each in company}}
    others = {member.role: [plain(member.job.model.batch), plain(member.job.model.layout)] for member in company}
    return _stage(job, run, "onnx", after, {"number": own_number(job), "company": others})


def served_engine(job: Job, onnx: Stage | Source, engine: Stage, exams: Exams) -> Stage:
    """Return the stage that makes a server's own folder of one TensorRT engine.

    Raises:
        LayoutError: When the server does not serve engines, or lacks a feature.
    """

    def run(work: Work) -> StageRecord:
        done = work.before("model")
        given = ServedModel.of(job.model.name, "tensorrt", done.folder / ENGINE, signature_of(done))
        return _lay_out(job, given, work, {"model": done.folder}, exams)

    require_alone(job)
    return _stage(job, run, "tensorrt", {"model": engine, "onnx": onnx} if _samples(job) else {"model": engine})


def served_source(job: Job) -> Stage:
    """Return the stage that makes a server's own folder of the source model, as it is.

    Raises:
        LayoutError: When the server does not serve that format, or lacks a feature, or is to warm up with samples.
    """

    def run(work: Work) -> StageRecord:
        done = work.before("model")
        files = job.files(work.progress)
        place = ModelFiles.of(files.entry, files.external)
        if files.format == "onnx" and job.target.kind == "cpu":
            _require_loadable(files.entry)
        signature = signature_of(done) if files.format == "onnx" else None
        given = ServedModel(job.model.name, files.format, {1: place}, signature)
        return _lay_out(job, with_found_outputs(given), work, {"model": files.root}, None)

    require_alone(job)
    stage = _stage(job, run, job.format, {"model": job.source})
    if job.model.layout.warmup == "samples":
        reason = f"wants samples as tensors, and nothing is asked of build {job.build!r}, which is served as it is"
        fix = "Write `warmup: zeros` or `none`, or give the build `engine: onnxruntime`."
        raise LayoutError("layout.warmup", reason, fix, value="samples")
    return stage


def _require_loadable(model: Path) -> None:
    """Refuse a model that would end its server.

    Raises:
        SourceError: Naming what ends it.
    """
    if ended := fatal(model):
        reason = f"ends the process that loads it in ONNX Runtime on a CPU ({shortened(ended)})"
        raise SourceError(str(model), reason, "Give the build `engine: onnxruntime`, which mends what is known of such models.")


def gathered(job: Job, engines: Mapping[str, Stage]) -> Stage:
    """Return the stage that puts the engines of several architectures together: `<architecture>/model.engine`."""

    def run(work: Work) -> StageRecord:
        done = {architecture: work.before(architecture) for architecture in engines}
        files: dict[str, Path | bytes] = {f"{name}/{ENGINE}": engine.folder / ENGINE for name, engine in done.items()}
        files[SIGNATURE] = next(iter(done.values())).folder / SIGNATURE
        laid.save(files, work.out, {name: engine.folder for name, engine in done.items()})
        return StageRecord(stage="layout", options={"architectures": list(engines)})

    return Stage("layout", run, after=dict(engines), options={"engines": job.spec.engine})


def _versions(job: Job, done: Mapping[str, Done], company: Sequence[Member]) -> ServedModel:
    """Return a model with all its versions that go into one image.

    Raises:
        LayoutError: When they differ in their inputs and outputs, which a server has one description of, or one is offered that is not
            there.
    """
    signature = signature_of(done["model"])
    versions = {own_number(job): _onnx_files(done["model"])}
    for member in company:
        if member.job.model.name != job.model.name:
            continue
        if not signature_of(done[member.role]).same_interface(signature):
            reason = f"have other inputs or outputs than build {job.build!r}"
            raise LayoutError("layout.numbers", reason, "Give it an image of its own.", value=member.job.build)
        versions[own_number(member.job)] = _onnx_files(done[member.role])
    offered = job.model.layout.versions.offered(versions)
    # Only Triton's own backend compares; a server for CPUs is ours.
    return with_found_outputs(ServedModel(job.model.name, "onnx", versions, signature), offered, exact=job.target.kind == "gpu")


def _onnx_files(done: Done) -> ModelFiles:
    beside = [done.folder / name for name in done.record.outputs if name != MODEL and (done.folder / name).is_file()]
    return ModelFiles.of(done.file, beside)


def _stage(job: Job, run: Any, form: str, after: Mapping[str, Stage | Source], more: Mapping[str, Any] | None = None) -> Stage:
    require_layout(job.target.server, form, job.model.layout)
    require_offered(job)
    options = {
        "name": job.model.name,
        "format": form,
        "server": job.target.server,
        "kind": job.target.kind,
        "batch": plain(job.model.batch),
        "layout": plain(job.model.layout),
        **(more or {}),
        "samples": {**job.sample_inputs("verify"), "generate": plain(job.model.verify.generated)} if _samples(job) else None,
    }
    # The shapes in a server's configuration are those that ONNX Runtime finds.
    tools = {**identity(job.target.server), **(tool_versions("onnxruntime") if form == "onnx" else {})}
    return Stage("layout", run, version=5, after=after, options=options, tools=tools)


def _samples(job: Job) -> bool:
    """Whether a server warms up with samples, so that they are content of the image."""
    return job.model.layout.warmup == "samples" and job.spec.engine != "native"


def _lay_out(job: Job, model: ServedModel, work: Work, folders: Mapping[str, Path], exams: Exams | None) -> StageRecord:
    files, record = lay_out(job.target.server, model, _wishes(job, work, exams))
    laid.save(files, work.out, folders)
    return record


def _wishes(job: Job, work: Work, exams: Exams | None) -> Wishes:
    samples = exams.of(work).requests.tensors[:WARMUP_SAMPLES] if exams and _samples(job) else ()
    # Files of this machine are trusted, as `sources` has it.
    trusted = job.model.source.url is None or job.model.source.allow_pickle
    return Wishes(job.model.batch, job.model.layout, job.target, samples, scratch=work.out, allow_pickle=trusted)
