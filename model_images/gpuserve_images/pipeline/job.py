"""One build of one model for one place, and what its stages read from outside."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gpuserve.kubernetes.errors import SpecError, suggestion
from gpuserve_images.compile.matching import fitting
from gpuserve_images.compile.spec import COMPILED
from gpuserve_images.onnx_model.files import check
from gpuserve_images.pipeline.stage import Source
from gpuserve_images.records import Progress, StageRecord, sha256_file
from gpuserve_images.samples.codec import io_path
from gpuserve_images.samples.picking import SampleSet, sample_set
from gpuserve_images.sources.resolving import SourceFiles, at_hand, fetch, format_of, identity
from gpuserve_images.sources.spec import Format
from gpuserve_images.spec import BuildSpec, ModelSpec
from gpuserve_images.target import Target


@dataclass(frozen=True)
class Job:
    """What is to be built.

    Attributes:
        model: The model.
        build: Name of one of its builds.
        folder: Folder of the model's YAML file, which its paths are relative to.
        target: Where it will run.
    """

    model: ModelSpec
    build: str
    folder: Path
    target: Target
    _fetched: list[SourceFiles] = field(default_factory=list[SourceFiles], repr=False, compare=False)

    @cached_property
    def spec(self) -> BuildSpec:
        """The build.

        Raises:
            SpecError: When the model has none of that name.
        """
        return require_build(self.model, self.build)

    @property
    def processor(self) -> Target:
        """Where its ONNX file runs, or what is made of it: engines are for GPUs, wherever they are built."""
        return replace(self.target, kind="gpu") if self.spec.engine in COMPILED else self.target

    @cached_property
    def format(self) -> Format:
        """What the source's files are.

        Raises:
            SourceError: When nothing tells.
        """
        return format_of(self.model.source, self.folder)

    @cached_property
    def source(self) -> Source:
        """The model's own files, known by their content and not yet fetched.

        Raises:
            SourceError: When they are of this machine, and missing or damaged.
        """

        def locate(progress: Progress) -> tuple[Path, str, StageRecord]:
            files = self.files(progress)
            if files.format == "onnx":
                check(files.entry)
            return files.root, files.entry.relative_to(files.root).as_posix(), files.record

        spec = self.model.source
        shown = spec.address.shown if spec.address else spec.file or f"{spec.package}:{spec.path}"
        return Source(identity(spec, self.folder), locate, shown)

    def files(self, progress: Progress) -> SourceFiles:
        """Return the model's own files, fetched when they are first asked for.

        Raises:
            SourceError: When they cannot be had, or are not what was declared.
        """
        if not self._fetched:
            self._fetched.append(fetch(self.model.source, self.folder, progress=progress))
        return self._fetched[0]

    @property
    def here(self) -> bool:
        """Whether the model's own files can be had without a download.

        Raises:
            SourceError: When they are of this machine, and missing or damaged.
        """
        source = self.model.source
        return source.address is None or bool(self._fetched) or at_hand(source, self.folder) is not None

    @property
    def declared(self) -> StageRecord:
        """What an address says of the model's own files, without them: where they are, and what pins their content."""
        source, address = self.model.source, self.model.source.address
        options = {
            "format": self.format,
            "url": address.shown if address else None,
            "revision": address.revision if address else None,
        }
        pins = {address.name: source.sha256} if address and source.sha256 else {}
        return StageRecord(stage="source", inputs=pins, options=options)

    @cached_property
    def samples(self) -> SampleSet:
        """The sample files.

        Raises:
            SourceError: When there are none where some are named.
        """
        return sample_set(self.model, self.build, self.folder)

    def sample_inputs(self, use: str) -> dict[str, Any]:
        """Return what of the samples decides a result: their content and the code that reads them.

        Args:
            use: `verify` or `calibrate`.
        """
        io = io_path(self.model.io, self.folder)
        return {"samples": self.samples.hashes()[use], "io": sha256_file(io) if io else None}

    @cached_property
    def architectures(self) -> tuple[str, ...]:
        """The GPUs to make engines for: the target's, or all of the build's where the target names none.

        Raises:
            SpecError: When the build makes no engine for the target's architecture: another one's does not run there.
        """
        return engine_architectures(self.build, self.spec, self.target)


def require_build(model: ModelSpec, build: str, field: str = "build") -> BuildSpec:
    """Return a build of a model.

    Args:
        model: The model.
        build: Name of the build.
        field: Field that names it. Default `build`.

    Raises:
        SpecError: When it has none of that name.
    """
    if build not in model.builds:
        raise SpecError.of(field, build, f"model {model.name!r} has no such build", suggestion(build, model.builds))
    return model.builds[build]


def engine_architectures(build: str, spec: BuildSpec, target: Target) -> tuple[str, ...]:
    """Return the architectures to make engines for: one that runs on the target, or all of the build's where the target names none.

    Raises:
        SpecError: When the build makes no engine that runs on the target's architecture.
    """
    wanted = target.architecture
    if wanted is None:
        return spec.architectures
    built = fitting(spec.architectures, wanted, spec.compile)
    if built is None:
        reason = f"makes no engine for {wanted}, the architecture of the pool's GPUs"
        fix = f"add {wanted} to `architectures`"
        raise SpecError.of(f"builds.{build}.architectures", list(spec.architectures), reason, fix)
    return (built,)
