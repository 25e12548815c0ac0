"""From a model file to a verified image in a registry; unchanged inputs cost one request."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from gpuserve.kubernetes.spec import plain
from gpuserve_images.bases import serving as serving_base
from gpuserve_images.oci import BakeResult, File, ImageConfig, Layer, bake, push_artifact, resolve
from gpuserve_images.oci.spec import NON_ROOT, BakeSpec
from gpuserve_images.pipeline import making
from gpuserve_images.pipeline.chain import Chain, plan
from gpuserve_images.pipeline.folders import usable
from gpuserve_images.pipeline.inventory import BUILDS, keep_report
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.key import image_reference
from gpuserve_images.pipeline.loading import require_loading_server
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.pipeline.published import published
from gpuserve_images.pipeline.publishing import Facts, publish, require_base_signature, require_signature, signing_key
from gpuserve_images.pipeline.report import BuildReport, Summary
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.sharing import REPOSITORY, StageShare
from gpuserve_images.pipeline.store import cache_folder
from gpuserve_images.records import Progress, StageRecord, silent
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import CPU, Target
from gpuserve_images.verify.attached import attach_report
from gpuserve_images.verify.report import VerifyReport

ENGINE_ARTIFACT = "application/vnd.gpuserve.tensorrt-rtx.v1"
MODEL_ARTIFACT = "application/vnd.gpuserve.model.v1"


def build(  # noqa: PLR0913 - keywords of one public call, each with its own default
    model: ModelSpec,
    build: str,
    *,
    folder: Path | str,
    registry: str,
    base: str = "",
    target: Target = CPU,
    progress: Progress = silent,
    cache: Path | str | None = None,
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
        SpecError: When the model has no such build, or not for this target, or `registry` is none.
        SourceError: When the model or its samples are missing or damaged.
        ParityError: When the result strays too far from its source; nothing was pushed.
        StoreError: When the disk is full, or the cache is no folder or cannot be written.
        RegistryError: When the registry is down or refuses.
        SigningKeyError: When the model has a signer whose key cannot be used.
        SignatureError: When the registry has the image without that signature, or the base lacks the one that it should have.
        CompileError: When engines are wanted that this machine cannot make, or that the base's server would not load.
    """
    started = time.monotonic()
    folder = Path(folder)
    chain = plan(Job(model, build, folder, target), base)
    tag = image_reference(model, chain.key, registry)
    found = trusted(tag, model.bake, folder)
    if found is not None:
        return found
    # A key that cannot be used is said before hours of building.
    signing_key(model.bake, folder)
    root = Path(cache) if cache else cache_folder()
    with _alone(root, chain.key, lambda: progress("another build is at it", 0, 0)):
        return trusted(tag, model.bake, folder) or _Build(chain, tag, registry, root, progress, started).run()


def trusted(tag: str, spec: BakeSpec, folder: Path) -> BuildReport | None:
    """Return the report of an image that the registry has and, where the model has a signer, whose signature holds; or None.

    Args:
        tag: Address by content tag.
        spec: Who signs.
        folder: Folder of the model's YAML file, which key files are relative to.

    Raises:
        SignatureError: When the registry has an image without that signature.
        SigningKeyError: When the key cannot be used.
        SourceError: When something else than gpuserve pushed that tag.
        RegistryError: When the registry is down or refuses.
    """
    found = published(tag)
    if found is not None:
        require_signature(found.reference, spec, folder)
    return found


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
        require_loading_server(self.chain)
        notes: list[str] = []
        share = StageShare(f"{self.registry}/{self.chain.job.model.name}/{REPOSITORY}", notes.append)
        with Runner(self.root, share, self.progress) as runner:
            made = making.make(self.chain, runner)
            files, verified = made.files(runner), made.report(self.chain, runner)
            records = making.records(self.chain, runner, made.missed)
            pushed = self._publish(made.summary, files, records, verified)
            report = BuildReport(
                reference=pushed.reference,
                tag=self.tag,
                digest=pushed.digest,
                summary=made.summary,
                built=runner.worked,
                pushed=True,
                uploaded_bytes=pushed.uploaded_bytes,
                capacity=verified.capacity,
                records=records,
                stages=making.runs(self.chain, runner),
                notes=(*notes, *_notes(self.chain), *verified.notes),
                seconds=round(time.monotonic() - self.started, 3),
            )
        try:
            keep_report(self.root, report)
        except OSError as error:
            # The image is there, whole and under its tag: nothing of that is undone by a full disk here.
            note = f"the image is pushed, and `gpuserve images ls` on this machine will not know it: {error}"
            return report.model_copy(update={"notes": (*report.notes, note)})
        return report

    def _publish(
        self, summary: Summary, files: dict[str, Path], records: tuple[StageRecord, ...], report: VerifyReport
    ) -> BakeResult:
        base = self._base()
        job = self.chain.job
        target = {name: value for name, value in asdict(job.target).items() if value is not None}
        asked, *company = ({"model": plain(one.model), "build": one.build} for one in self.chain.jobs)
        parameters = {**asked, "target": target} | ({"company": company} if company else {})
        facts = Facts(self.chain.key, parameters, records, files, base)
        as_image = self.chain.base is not None and self.spec.form == "image"
        push = self._image(summary, files, base) if as_image else self._artifact(summary, files)
        return publish(self.tag, push, facts, self.spec, job.folder, report=lambda image: attach_report(image, report))

    @property
    def spec(self) -> BakeSpec:
        """How the image is made."""
        return self.chain.job.model.bake

    def _base(self) -> str:
        """Return the base by digest, empty where there is none: what is signed for is what is built on."""
        if self.chain.base in {None, serving_base.SCRATCH}:
            return ""
        base = serving_base.ensure(str(self.chain.base), self.registry, self.progress)
        found = resolve(base)
        # By digest: what was checked is what is built on.
        pinned = found.reference if found else base
        require_base_signature(pinned, self.spec, self.chain.job.folder)
        return pinned

    def _image(self, summary: Summary, files: dict[str, Path], base: str) -> Callable[[str], BakeResult]:
        """Bake one layer per file: a changed `config.pbtxt` does not upload the weights again."""
        about = self.spec.about.notes(summary.model)
        # An image of files alone runs nothing.
        user = (self.spec.user or None, NON_ROOT) if base else (None, None)
        return lambda place: bake(
            place,
            [Layer({path: File(source)}, comment=path) for path, source in sorted(files.items(), reverse=True)],
            base=base or None,
            config=ImageConfig(user=user[0], instead_of_root=user[1], labels=about),
            annotations={**about, **summary.annotations()},
            progress=self._sent,
            platform=self.spec.platforms,
            compression=self.spec.compression,
            uploads=self.spec.uploads,
        )

    def _artifact(self, summary: Summary, files: dict[str, Path]) -> Callable[[str], BakeResult]:
        """Push the files under their names, which are relative in an artifact."""
        return lambda place: push_artifact(
            place,
            {path.removeprefix("/"): File(source) for path, source in files.items()},
            artifact_type=MODEL_ARTIFACT if self.chain.base else ENGINE_ARTIFACT,
            annotations={**self.spec.about.notes(summary.model), **summary.annotations()},
            progress=self._sent,
            uploads=self.spec.uploads,
        )

    def _sent(self, done: int, total: int) -> None:
        self.progress("push", done, total)


@contextmanager
def _alone(root: Path, key: str, waiting: Callable[[], None]) -> Generator[None]:
    """Be the only build of a key on this machine."""
    lock = Lock(root / BUILDS / f"{key}.lock")
    with usable(root):
        lock.alone(waiting)
    try:
        yield
    finally:
        lock.close()


def _notes(chain: Chain) -> tuple[str, ...]:
    if chain.job.spec.engine == "native":
        return ("parity is not applicable: the server runs the source model itself",)
    return ()
