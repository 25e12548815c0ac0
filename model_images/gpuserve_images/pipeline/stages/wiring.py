"""Whether the models of an ensemble fit together: seen as soon as their inputs and outputs are known, before anything is made of them."""

from collections.abc import Mapping, Sequence

from gpuserve.kubernetes.spec import plain
from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.layouts.wiring import require_served_alike, wired_signature
from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.pipeline.company import Member
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage, Work
from gpuserve_images.pipeline.stages.kept import SIGNATURE, signature_of
from gpuserve_images.records import StageRecord
from gpuserve_images.sources.resolving import at_hand


def wired(job: Job, onnx: Stage | Source, company: Sequence[Member]) -> Stage | None:
    """Return the stage that refuses an ensemble whose models do not fit together; None for a model without one.

    Args:
        job: The build.
        onnx: Its source as ONNX.
        company: The other builds of its image.

    Raises:
        LayoutError: When they are ONNX files that are at hand, and do not fit together.
    """
    ensemble = job.model.layout.ensemble
    if ensemble is None:
        return None
    others = {member.job.model.name: member for member in company if member.job.model.name != job.model.name}
    jobs = {job.model.name: job, **{name: member.job for name, member in others.items()}}
    known = _at_hand(jobs)
    if known is not None:
        _wire(ensemble, known)

    def run(work: Work) -> StageRecord:
        signatures = {name: one.model.batch.seen(signature_of(work.before(name))) for name, one in jobs.items()}
        signature = _wire(ensemble, signatures)
        (work.out / SIGNATURE).write_text(signature.model_dump_json(indent=2), encoding="utf-8")
        return StageRecord(stage="wiring")

    return Stage(
        "wiring",
        run,
        after={job.model.name: onnx, **{name: member.onnx for name, member in others.items()}},
        options={"ensemble": plain(ensemble), "batch": {name: plain(one.model.batch) for name, one in jobs.items()}},
    )


def _at_hand(jobs: Mapping[str, Job]) -> dict[str, Signature] | None:
    """Return the signatures of the models; None where one takes a download or an export."""
    found: dict[str, Signature] = {}
    for name, job in jobs.items():
        files = at_hand(job.model.source, job.folder) if job.format == "onnx" else None
        if files is None:
            return None
        found[name] = job.model.batch.seen(read_signature(files.entry))
    return found


def _wire(ensemble: EnsembleSpec, models: Mapping[str, Signature]) -> Signature:
    signature = wired_signature(ensemble, models)
    require_served_alike(ensemble, models)
    return signature
