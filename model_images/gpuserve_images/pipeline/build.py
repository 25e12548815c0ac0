"""From a model file to a verified image in a registry; unchanged inputs cost one request."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.bases import serving as serving_base
from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.oci import BakeResult, File, Layer, bake, push_artifact, resolve
from gpuserve_images.pipeline import engines
from gpuserve_images.pipeline.cache import cache_folder, locked, once
from gpuserve_images.pipeline.key import content_key, image_reference, require_build
from gpuserve_images.pipeline.onnx_build import build_onnx
from gpuserve_images.pipeline.report import BuildReport, Summary
from gpuserve_images.records import Progress, StageRecord, silent
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.capacity import Capacity

RESULT = "result.json"
ENGINE_ARTIFACT = "application/vnd.gpuserve.tensorrt-rtx.v1"
CPU = Target()


@dataclass(frozen=True)
class _Finished:
    """A build in the local cache."""

    folder: Path
    summary: Summary
    records: tuple[StageRecord, ...]
    capacity: Capacity | None


def build(  # noqa: PLR0913 - keywords of one public call, each with its own default
    model: ModelSpec,
    build: str,
    *,
    folder: Path,
    registry: str,
    base: str = "",
    target: Target = CPU,
    progress: Progress = silent,
    cache: Path | None = None,
) -> BuildReport:
    """Build, verify and push one build of a model, unless the registry has it.

    Args:
        model: The model.
        build: Name of one of its builds.
        folder: Folder of the model's YAML file, which its paths are relative to.
        registry: Registry and path prefix, such as `localhost:5000/models`.
        base: Base image: a recipe beside this package or an image reference. Default: the target's.
        target: Where the image will run. Default: Triton on a CPU.
        progress: Told about each stage.
        cache: Folder of finished builds. Default: `$XDG_CACHE_HOME/gpuserve/images`.

    Raises:
        SpecError: When the model has no such build, or not for this target.
        SourceError: When the model or its samples are missing or damaged.
        ParityError: When the result strays too far from its source; nothing was pushed.
        RegistryError: When the registry is down or refuses.
    """
    started = time.monotonic()
    key = content_key(model, build, folder=folder, target=target, base=base)
    tag = image_reference(model, key, registry)
    found = published(tag)
    if found is not None:
        return found
    root = cache or cache_folder()
    with locked(key, root):
        found = published(tag)
        if found is not None:
            return found
        known = (root / key).is_dir()
        finished = _read(once(key, root, lambda place: _make(model, build, key, place, folder, target, progress)))
        if require_build(model, build).engine == "onnxruntime":
            stands_on = serving_base.ensure(base or serving_base.default_base(target), registry, progress)
            pushed = _push_image(model, finished, tag, stands_on, target, progress)
        else:
            pushed = _push_engines(finished, tag, progress)
    return BuildReport(
        reference=pushed.reference,
        tag=tag,
        digest=pushed.digest,
        summary=finished.summary,
        built=not known,
        pushed=True,
        uploaded_bytes=pushed.uploaded_bytes,
        seconds=round(time.monotonic() - started, 3),
        records=finished.records,
        capacity=finished.capacity,
    )


def published(tag: str) -> BuildReport | None:
    """Return the report of an image that the registry has, or None: one request.

    Args:
        tag: Address by content tag.

    Raises:
        SourceError: When something else than gpuserve pushed that tag.
        RegistryError: When the registry is down or refuses.
    """
    found = resolve(tag)
    if found is None:
        return None
    summary = Summary.from_annotations(found.annotations)
    if summary is None:
        reason = "is in the registry, but does not carry gpuserve's annotations, so it was pushed by something else"
        raise SourceError(tag, reason, "Delete that tag, or use another registry path.")
    return BuildReport(reference=found.reference, tag=tag, digest=found.digest, summary=summary, built=False, pushed=False)


def _make(  # noqa: PLR0913, PLR0917 - hands one call's arguments on
    model: ModelSpec, build: str, key: str, place: Path, folder: Path, target: Target, progress: Progress
) -> None:
    """Run the stages into a folder, and write down what they did."""
    if require_build(model, build).engine == "onnxruntime":
        made = build_onnx(model, build, folder=folder, out=place / "model.onnx", target=target, progress=progress)
        summary = Summary(
            model=model.name,
            build=build,
            key=key,
            signature=made.signature,
            quantisation=made.quantisation,
            parity=made.parity,
        )
        records, capacity = made.records, made.capacity
    else:
        engine = engines.build_engines(model, build, folder=folder, out=place / "engines", target=target, progress=progress)
        summary = Summary(
            model=model.name, build=build, key=key, signature=engine.signature, architectures=engine.architectures
        )
        records, capacity = engine.records, None
    result = {
        "summary": summary.model_dump(mode="json"),
        "records": [record.model_dump(mode="json") for record in records],
        "capacity": capacity.model_dump(mode="json") if capacity else None,
    }
    (place / RESULT).write_text(json.dumps(result, indent=2, sort_keys=True), encoding="utf-8")


def _read(folder: Path) -> _Finished:
    data = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return _Finished(
        folder,
        Summary.model_validate(data["summary"]),
        tuple(StageRecord.model_validate(record) for record in data["records"]),
        Capacity.model_validate(data["capacity"]) if data["capacity"] else None,
    )


def _push_image(  # noqa: PLR0913, PLR0917 - hands one call's arguments on
    model: ModelSpec, finished: _Finished, tag: str, base: str, target: Target, progress: Progress
) -> BakeResult:
    """Bake one layer per file: a changed `config.pbtxt` does not upload the weights again."""
    served = ServedModel.of(model.name, "onnx", finished.folder / "model.onnx", finished.summary.signature)
    files, _ = lay_out(target.server, served, Wishes(batch=model.batch, target=target))
    layers = [Layer({path: File(source)}, comment=path) for path, source in sorted(files.items(), reverse=True)]
    return bake(
        tag,
        layers,
        base=base,
        annotations=finished.summary.annotations(),
        progress=lambda done, total: progress("push", done, total),
    )


def _push_engines(finished: _Finished, tag: str, progress: Progress) -> BakeResult:
    folder = finished.folder / "engines"
    files = {path.relative_to(folder).as_posix(): File(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    return push_artifact(
        tag,
        files,
        artifact_type=ENGINE_ARTIFACT,
        annotations=finished.summary.annotations(),
        progress=lambda done, total: progress("push", done, total),
    )
