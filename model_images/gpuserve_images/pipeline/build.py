"""From a model file to a verified image in a registry; unchanged inputs cost one request."""

import time
from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.bases import serving as serving_base
from gpuserve_images.errors import SourceError
from gpuserve_images.oci import BakeResult, File, Layer, bake, push_artifact, resolve
from gpuserve_images.pipeline import making
from gpuserve_images.pipeline.chain import Chain, plan
from gpuserve_images.pipeline.inventory import BUILDS, keep_report
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.key import image_reference
from gpuserve_images.pipeline.locks import locked
from gpuserve_images.pipeline.report import BuildReport, Summary
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.sharing import REPOSITORY, StageShare
from gpuserve_images.pipeline.store import cache_folder
from gpuserve_images.records import Progress, silent
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.attached import attach_report
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.report import VerifyReport

ENGINE_ARTIFACT = "application/vnd.gpuserve.tensorrt-rtx.v1"
CPU = Target()


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

    Stages that were run before with the same inputs, here or by anybody who pushes to the same registry, are not run again.

    Args:
        model: The model.
        build: Name of one of its builds.
        folder: Folder of the model's YAML file, which its paths are relative to.
        registry: Registry and path prefix, such as `localhost:5000/models`.
        base: Base image: a recipe beside this package or an image reference. Default: the target's.
        target: Where the image will run. Default: Triton on a CPU.
        progress: Told about each stage.
        cache: Folder of finished stages. Default: `$XDG_CACHE_HOME/gpuserve/images`.

    Raises:
        SpecError: When the model has no such build, or not for this target.
        SourceError: When the model or its samples are missing or damaged.
        ParityError: When the result strays too far from its source; nothing was pushed.
        StoreError: When the disk is full.
        RegistryError: When the registry is down or refuses.
    """
    started = time.monotonic()
    chain = plan(Job(model, build, folder, target), base)
    tag = image_reference(model, chain.key, registry)
    found = published(tag)
    if found is not None:
        return found
    root = cache or cache_folder()
    with locked(root / BUILDS / f"{chain.key}.lock", lambda: progress("another build is at it", 0, 0)):
        return published(tag) or _Build(chain, tag, registry, root, progress, started).run()


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


@dataclass(frozen=True)
class _Build:
    """One build that the registry lacks."""

    chain: Chain
    tag: str
    registry: str
    root: Path
    progress: Progress
    started: float

    def run(self) -> BuildReport:
        notes: list[str] = []
        share = StageShare(f"{self.registry}/{self.chain.job.model.name}/{REPOSITORY}", notes.append)
        with Runner(self.root, share, self.progress) as runner:
            made = making.make(self.chain, runner)
            files, capacity = made.files(runner), made.capacity(runner)
            pushed = self._push_image(made.summary, files) if self.chain.base else self._push_engines(made.summary, files)
            attach_report(pushed.reference, self._report(made.summary, capacity))
            report = BuildReport(
                reference=pushed.reference,
                tag=self.tag,
                digest=pushed.digest,
                summary=made.summary,
                built=runner.worked,
                pushed=True,
                uploaded_bytes=pushed.uploaded_bytes,
                capacity=capacity,
                records=making.records(self.chain, runner, made.missed),
                stages=making.runs(self.chain, runner),
                notes=(*notes, *_notes(self.chain)),
                seconds=round(time.monotonic() - self.started, 3),
            )
        keep_report(self.root, report)
        return report

    def _push_image(self, summary: Summary, files: dict[str, Path]) -> BakeResult:
        """Bake one layer per file: a changed `config.pbtxt` does not upload the weights again."""
        chosen = str(self.chain.base)
        base = None if chosen == serving_base.SCRATCH else serving_base.ensure(chosen, self.registry, self.progress)
        layers = [Layer({path: File(source)}, comment=path) for path, source in sorted(files.items(), reverse=True)]
        return bake(self.tag, layers, base=base, annotations=summary.annotations(), progress=self._sent)

    def _push_engines(self, summary: Summary, files: dict[str, Path]) -> BakeResult:
        return push_artifact(
            self.tag,
            {path: File(source) for path, source in files.items()},
            artifact_type=ENGINE_ARTIFACT,
            annotations=summary.annotations(),
            progress=self._sent,
        )

    def _report(self, summary: Summary, capacity: Capacity | None) -> VerifyReport:
        """Return what was measured, to be attached to the image: timings are no part of it, because its digest must not differ."""
        bars = self.chain.job.model.bars(summary.build).stated() if summary.parity else {}
        return VerifyReport(model=summary.model, build=summary.build, parity=summary.parity, bars=bars, capacity=capacity)

    def _sent(self, done: int, total: int) -> None:
        self.progress("push", done, total)


def _notes(chain: Chain) -> tuple[str, ...]:
    if chain.job.spec.engine == "native":
        return ("parity is not applicable: the server runs the source model itself",)
    if chain.ways[0].engines:
        return ("parity is that of the ONNX file which the engines were compiled from: they run on their GPUs only",)
    return ()
