"""One build of one model for one place, and what its stages read from outside."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gpuserve.kubernetes.errors import Problem, SpecError, suggestion
from gpuserve_images.onnx_model.files import check
from gpuserve_images.pipeline.stage import Source
from gpuserve_images.records import Progress, StageRecord, sha256_file, sha256_json
from gpuserve_images.samples.codec import io_path
from gpuserve_images.samples.picking import SampleSet, sample_set
from gpuserve_images.sources.resolving import resolve
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

    @cached_property
    def spec(self) -> BuildSpec:
        """The build.

        Raises:
            SpecError: When the model has none of that name.
        """
        return require_build(self.model, self.build)

    @cached_property
    def source(self) -> Source:
        """The model file, found and whole.

        Raises:
            SourceError: When it is missing or damaged.
        """
        found = resolve(self.model.source, self.folder)
        identity = sha256_json([found.sha256, *(sha256_file(file) for file in found.external)])

        def locate(_: Progress) -> tuple[Path, str, StageRecord]:
            check(found.path)
            return found.path.parent, found.path.name, found.record

        return Source(identity, locate)

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


def require_build(model: ModelSpec, build: str) -> BuildSpec:
    """Return a build of a model.

    Raises:
        SpecError: When it has none of that name.
    """
    if build not in model.builds:
        raise SpecError([Problem("build", build, f"model {model.name!r} has no such build", suggestion(build, model.builds))])
    return model.builds[build]


def engine_architectures(build: str, spec: BuildSpec, target: Target) -> tuple[str, ...]:
    """Return the architectures to make engines for: the target's, or all of the build's where the target names none.

    Raises:
        SpecError: When the build makes no engine for the target's architecture: another one's does not run there.
    """
    wanted = target.architecture
    if wanted is None:
        return spec.architectures
    if wanted not in spec.architectures:
        reason = f"makes no engine for {wanted}, the architecture of the pool's GPUs"
        fix = f"add {wanted} to `architectures`"
        raise SpecError([Problem(f"builds.{build}.architectures", list(spec.architectures), reason, fix)])
    return (wanted,)
