"""The stages of a build, one after the other, and the key of the image that they lead to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gpuserve_images.bases.serving import base_identity, default_base, require_base
from gpuserve_images.compile.spec import COMPILED, Engine
from gpuserve_images.errors import SourceError
from gpuserve_images.pipeline.company import Member, companies
from gpuserve_images.pipeline.exam import Exams
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage
from gpuserve_images.pipeline.stages import engines, ensemble_measures, images, losing, measures, models, wiring
from gpuserve_images.pipeline.stages.engine_measures import EngineMeasures, measured
from gpuserve_images.records import sha256_json
from gpuserve_images.target import Target, require_target

IMAGE_VERSION = 3
"""Raise when an image of the same stages would differ."""


@dataclass(frozen=True)
class Way:
    """One way to make a build; where its bars refuse the result, the next way is tried.

    Attributes:
        name: `none`, `static` or `dynamic`: how its numbers are quantised.
        model: The stage that makes the ONNX file, or None where the source is served as it is.
        engines: The stages that make the engines of that file, by architecture.
        measures: The stages that run those engines where their GPU is, by architecture.
        verify: The stage that compares it with the source, or None where the source is served as it is.
        losses: The stage that says which layers are to blame where a build misses a bar, unless it is fp32; no part of the image.
        capacity: The stage that times it, or None where it cannot run here.
        layout: The stage whose files become the image.
        company: Other builds that go into the same image, each judged by its own bars.
    """

    name: str
    layout: Stage
    model: Stage | None = None
    engines: Mapping[str, Stage] = field(default_factory=dict[str, Stage])
    measures: Mapping[str, EngineMeasures] = field(default_factory=dict[str, EngineMeasures])
    verify: Stage | None = None
    losses: Stage | None = None
    capacity: Stage | None = None
    company: tuple[Member, ...] = ()

    def stages(self) -> dict[str, Stage]:
        """Return every stage by key, the first first."""
        found: dict[str, Stage] = {}
        company = (stage for member in self.company for stage in (member.model, member.verify))
        ran = (stage for measures in self.measures.values() for stage in (measures.verify, measures.capacity))
        for stage in (self.model, *self.engines.values(), self.verify, self.capacity, *ran, *company, self.layout):
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
        base: Base image: a recipe beside this package, an image reference, or `scratch` for an image of the model alone; None for
            engines that no server takes, which become an artifact.
        wiring: The stage that refuses an ensemble whose models do not fit together, if there is one; no part of the image.
    """

    job: Job
    source: Source
    ways: tuple[Way, ...]
    base: str | None
    wiring: Stage | None = None

    @property
    def key(self) -> str:
        """The content key of the image, 64 hex digits: equal keys mean equal images."""
        return sha256_json(
            {
                "version": IMAGE_VERSION,
                "name": self.job.model.name,
                "build": self.job.build,
                "ways": [[way.verify.key if way.verify else None, way.layout.key] for way in self.ways],
                "company": [[_judgement(member) for member in way.company] for way in self.ways],
                "bars": self.job.model.bars(self.job.build).stated(),
                **({"engine_bars": self.job.model.engine_bars(self.job.build).stated()} if self.ways[0].engines else {}),
                "base": base_identity(self.base) if self.base else None,
                "bake": self.job.model.bake.identity(),
            }
        )

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The build, and the others that go into its image."""
        return (self.job, *(member.job for member in self.ways[0].company))

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
        base: Base image: a recipe beside this package, an image reference, or `scratch`. Default: the build's, else the server's.

    Raises:
        SpecError: When the model has no such build, or not for this target, or there is no such target.
        SourceError: When the model file or the samples are missing or damaged.
        ExportError: When the model is of a framework that is not installed.
        LayoutError: When the server cannot serve the build, or the models of its ensemble do not fit together.
        CompileError: When engines shall be made, and the model's shapes are not bounded or contradict their bounds, or the builder whose
            version names them is not installed.
        BaseImageError: When no base is known for the server, or none of that name.
        ImageError: When the base is no reference.
    """
    require_target(job.target)
    engine = job.spec.engine
    wired: Stage | None = None
    if engine == "native":
        ways = (Way("none", images.served_source(job)),)
    elif engine in COMPILED:
        ways = (_engines(job, _onnx(job)),)
    else:
        onnx = _onnx(job)
        ways = _onnx_ways(job, onnx)
        wired = wiring.wired(job, onnx, ways[0].company)
    return Chain(job, job.source, ways, _base(job, base) if _is_image(ways[0]) else None, wired)


def times(engine: Engine, target: Target) -> bool:
    """Tell whether a build measures how fast its model is, on what it is for.

    What a processor needs says nothing about a GPU. TensorRT's engines are built on theirs, and are run there.
    """
    return engine == "tensorrt" or (engine == "onnxruntime" and target.kind == "cpu")


def _onnx(job: Job) -> Stage | Source:
    """Return the model as ONNX: its own file, or what it is exported to."""
    if job.format == "onnx":
        return job.source
    if job.format == "huggingface":
        reason = "are Hugging Face files, which are served as they are"
        raise SourceError("source", reason, f"Write `engine: native` in build {job.build!r}, or export the model to ONNX.")
    return models.exported(job, job.format)


def _onnx_ways(job: Job, onnx: Stage | Source) -> tuple[Way, ...]:
    """Return the ways to make a build that ONNX Runtime serves."""
    exams = Exams(job)

    def capacity_of(model: Stage, company: tuple[Member, ...]) -> Stage | None:
        if not times(job.spec.engine, job.target):
            return None
        if job.model.layout.ensemble is None:
            return measures.timed(job, onnx, model, exams)
        return ensemble_measures.timed(job, onnx, model, exams, company)

    def losses_of(name: str, model: Stage) -> Stage | None:
        calibrate = job.spec.calibrate if name == "static" else None
        return losing.blamed(job, onnx, losing.Lowering(model, calibrate, job.target), exams)

    def way(name: str, model: Stage, company: tuple[Member, ...]) -> Way:
        capacity = capacity_of(model, company)
        layout = images.served_onnx(job, onnx, model, exams, company)
        verify = measures.verified(job, onnx, model, exams)
        losses = losses_of(name, model)
        return Way(name, layout, model=model, verify=verify, losses=losses, capacity=capacity, company=company)

    together = companies(job, _alone)
    return tuple(way(name, model, company) for name, model in _onnx_models(job, onnx, exams) for company in together)


def _alone(job: Job) -> list[tuple[Stage | Source, Stage, Stage]]:
    """Return how a build can be made that goes into another one's image: its source, its model, and how they compare."""
    onnx, exams = _onnx(job), Exams(job)
    return [(onnx, model, measures.verified(job, onnx, model, exams)) for _, model in _onnx_models(job, onnx, exams)]


def _onnx_models(job: Job, onnx: Stage | Source, exams: Exams) -> tuple[tuple[str, Stage], ...]:
    """Return the stages that can make a build's ONNX file, by how its numbers are quantised, the preferred one first."""
    calibrate = job.spec.calibrate
    if calibrate is not None:
        static = models.statically_quantised(job, onnx, calibrate, job.target)
        # Slower than static and nearer to the source: for when parity demands it. GPUs have no kernels for it.
        dynamic = (("dynamic", models.dynamically_quantised(job, onnx)),) if job.target.kind == "cpu" else ()
        return (("static", static), *dynamic)
    if job.spec.precision == "int8-dynamic":
        return (("dynamic", models.dynamically_quantised(job, onnx)),)
    optimised = models.optimised(job, onnx)
    fp16 = job.spec.precision == "fp16"
    return (("none", models.halved(job, onnx, optimised, exams) if fp16 else optimised),)


def _engines(job: Job, onnx: Stage | Source) -> Way:
    """Return the way to make engines: an ONNX file that is judged here, and compiled for each GPU."""
    engines.require_profiles(job)
    exams = Exams(job)
    gpu = job.processor
    model = models.optimised(job, onnx)
    if job.spec.calibrate is not None:
        model = models.statically_quantised(job, model, job.spec.calibrate, gpu)
    elif job.spec.precision == "fp16":
        model = models.halved(job, onnx, model, exams)
    made = {name: engines.compiled(job, model, name) for name in job.architectures}
    # Triton loads TensorRT's engines, one for each image. Those of TensorRT for RTX are loaded by a program that links it.
    alone = job.spec.engine == "tensorrt" and len(made) == 1
    layout = images.served_engine(job, onnx, next(iter(made.values())), exams) if alone else images.gathered(job, made)
    name = "static" if job.spec.calibrate is not None else "none"
    ran = {architecture: measured(job, onnx, engine, architecture, exams) for architecture, engine in made.items()}
    verify = measures.verified(job, onnx, model, exams)
    losses = losing.blamed(job, onnx, losing.Lowering(model, job.spec.calibrate, gpu), exams)
    return Way(name, layout, model=model, engines=made, measures=ran, verify=verify, losses=losses)


def _judgement(member: Member) -> list[object]:
    return [member.verify.key, member.job.model.bars(member.job.build).stated()]


def _is_image(way: Way) -> bool:
    return "server" in way.layout.options


def _base(job: Job, base: str) -> str:
    if named := base or job.spec.base:
        require_base(named)
    return named or default_base(replace(job.target, kind="gpu") if job.spec.engine in COMPILED else job.target)
