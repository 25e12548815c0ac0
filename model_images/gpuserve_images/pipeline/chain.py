"""The stages of a build, one after the other, and the key of the image that they lead to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuserve_images.bases.serving import base_identity, default_base
from gpuserve_images.pipeline import stages
from gpuserve_images.pipeline.bench import Benches
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage
from gpuserve_images.records import sha256_json

IMAGE_VERSION = 2
"""Raise when an image of the same stages would differ."""


@dataclass(frozen=True)
class Way:
    """One way to make a build; where its bars refuse the result, the next way is tried.

    Attributes:
        name: `none`, `static` or `dynamic`: how its numbers are quantised.
        model: The stage that makes the ONNX file, or None where none is made.
        engines: The stages that make the engines, by architecture.
        verify: The stage that compares it with the source, or None where nothing was changed or nothing can run here.
        capacity: The stage that times it, or None where it cannot run here.
        layout: The stage whose files become the image.
    """

    name: str
    layout: Stage
    model: Stage | None = None
    engines: Mapping[str, Stage] = field(default_factory=dict[str, Stage])
    verify: Stage | None = None
    capacity: Stage | None = None

    def stages(self) -> dict[str, Stage]:
        """Return every stage by key, the first first."""
        found: dict[str, Stage] = {}
        for stage in (self.model, *self.engines.values(), self.verify, self.capacity, self.layout):
            if stage is not None:
                found |= stage.chain()
        return found


@dataclass(frozen=True)
class Chain:
    """A build as stages: everything about it that is known before anything runs.

    Attributes:
        job: What is to be built.
        source: The model's own file.
        ways: How it can be made, the preferred one first.
        base: Base image: a recipe beside this package or an image reference; None for images without one.
    """

    job: Job
    source: Source
    ways: tuple[Way, ...]
    base: str | None

    @property
    def key(self) -> str:
        """The content key of the image, 64 hex digits: equal keys mean equal images."""
        return sha256_json(
            {
                "version": IMAGE_VERSION,
                "name": self.job.model.name,
                "build": self.job.build,
                "ways": [[way.verify.key if way.verify else None, way.layout.key] for way in self.ways],
                "bars": self.job.model.bars(self.job.build).stated(),
                "base": base_identity(self.base) if self.base else None,
            }
        )

    def stages(self) -> dict[str, Stage]:
        """Return every stage of every way by key."""
        found: dict[str, Stage] = {}
        for way in self.ways:
            found |= way.stages()
        return found


def plan(job: Job, base: str = "") -> Chain:
    """Return the stages of a build; nothing is run, but what is wrong with its inputs is said.

    Args:
        job: What is to be built.
        base: Base image: a recipe beside this package or an image reference. Default: the target's.

    Raises:
        SpecError: When the model has no such build, or not for this target.
        SourceError: When the model file or the samples are missing or damaged.
    """
    if job.spec.engine == "tensorrt-rtx":
        engines = {name: stages.compiled(job, job.source, name) for name in job.architectures}
        return Chain(job, job.source, (Way("none", stages.gathered(engines), engines=engines),), None)
    benches = Benches(job)

    def way(name: str, model: Stage) -> Way:
        return Way(
            name,
            stages.served(job, model),
            model=model,
            verify=stages.verified(job, job.source, model, benches),
            capacity=stages.timed(job, job.source, model, benches),
        )

    if job.spec.calibrate is None:
        ways = (way("none", stages.optimised(job, job.source)),)
    else:
        # Slower than static and nearer to the source: for when parity demands it.
        ways = (
            way("static", stages.statically_quantised(job, job.source)),
            way("dynamic", stages.dynamically_quantised(job.source)),
        )
    return Chain(job, job.source, ways, base or default_base(job.target))
