"""Builds that go into the image of another one: versions beside it, and the other models of its ensemble."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from gpuserve.kubernetes.errors import SpecError, suggestion
from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.pipeline.job import Job, require_build
from gpuserve_images.pipeline.stage import Source, Stage
from gpuserve_images.spec import load_model

if TYPE_CHECKING:
    from gpuserve_images.layouts.spec import EnsembleSpec

OWN_VERSION = 1
"""Number of a build that is alone in its image."""


@dataclass(frozen=True)
class Member:
    """Another build, made in one of its ways.

    Attributes:
        role: What it is in the image: `version-<number>` of the same model, or `model-<name>` of an ensemble.
        job: The build.
        onnx: Its source as ONNX.
        model: The stage that makes its ONNX file.
        verify: The stage that compares it with its source; its own bars judge it.
    """

    role: str
    job: Job
    onnx: Stage | Source
    model: Stage
    verify: Stage


def own_number(job: Job) -> int:
    """Return the version number of a build in its image."""
    return next((number for number, build in job.model.layout.numbers.items() if build == job.build), OWN_VERSION)


def companies(job: Job, ways: Callable[[Job], Sequence[tuple[Stage | Source, Stage, Stage]]]) -> list[tuple[Member, ...]]:
    """Return every way to make the builds that go into the image of another; one empty way where there are none.

    Args:
        job: The build whose image it is.
        ways: Returns how a build can be made alone: its source as ONNX, the stage of its file, and the one that compares them.

    Raises:
        SpecError: When one does not exist, or is no build that ONNX Runtime serves.
    """
    choices = [[Member(role, other, *way) for way in ways(other)] for role, other in others(job).items()]
    return list(product(*choices))


def require_alone(job: Job) -> None:
    """Refuse company for a build that is not ONNX Runtime's.

    Raises:
        SpecError: When the model has an ensemble, or the build a version number beside others.
    """
    layout = job.model.layout
    for name, given in (("ensemble", layout.ensemble is not None), ("numbers", job.build in layout.numbers.values())):
        if given:
            _require_onnxruntime(job, f"layout.{name}")


def require_offered(job: Job) -> None:
    """Refuse versions that are to be offered alone and that the image of a build does not have.

    Raises:
        LayoutError: Naming them, and those that it has.
    """
    layout = job.model.layout
    present = sorted(layout.numbers) if job.build in layout.numbers.values() else [own_number(job)]
    absent = sorted(set(layout.versions.only) - set(present))
    if absent:
        reason = f"names no versions of the image of build {job.build!r} of {job.model.name}, which has {present}"
        fix = "Name those, or give builds these numbers with `layout.numbers`."
        raise LayoutError("layout.versions.only", reason, fix, value=", ".join(map(str, absent)))


def others(job: Job) -> Mapping[str, Job]:
    """Return the other builds that go into the image of a build, by their role.

    Raises:
        SpecError: When one does not exist, or is no build that ONNX Runtime serves.
    """
    numbers = job.model.layout.numbers
    found: dict[str, Job] = {}
    for number, build in sorted(numbers.items()):
        _require_onnxruntime(Job(job.model, build, job.folder, job.target), f"layout.numbers.{number}")
        if job.build in numbers.values() and build != job.build:
            found[f"version-{number}"] = Job(job.model, build, job.folder, job.target)
    ensemble = job.model.layout.ensemble
    if ensemble:
        found |= _ensemble_models(job, ensemble)
    return found


def _ensemble_models(job: Job, ensemble: "EnsembleSpec") -> dict[str, Job]:
    found: dict[str, Job] = {}
    for index, step in enumerate(ensemble.steps):
        field = f"layout.ensemble.steps[{index}]"
        if step.model == job.model.name:
            if step.build is not None:
                reason = "is a build of this model, and the image's own build is what goes in"
                raise SpecError.of(f"{field}.build", step.build, reason, "remove `build:`")
            continue
        path = job.folder / f"{step.model}.yaml"
        if not path.is_file():
            known = [file.stem for file in job.folder.glob("*.yaml")]
            reason = f"has no YAML file beside that of {job.model.name}"
            raise SpecError.of(f"{field}.model", step.model, reason, suggestion(step.model, known))
        if step.build is None:
            reason = f"does not say which build of {step.model} goes in"
            raise SpecError.of(f"{field}.build", None, reason, "add `build:`")
        other = Job(load_model(path), step.build, job.folder, job.target)
        if other.model.name != step.model:
            reason = (
                f"is the file {path.name} of a model that is called {other.model.name!r}, and a server knows it by that name"
            )
            fix = f"write `name: {step.model}` there, or rename the file to {other.model.name}.yaml and name that here"
            raise SpecError.of(f"{field}.model", step.model, reason, fix)
        _require_onnxruntime(other, f"{field}.build")
        _require_plain(other, field)
        known = found.setdefault(f"model-{step.model}", other)
        if known.build != step.build:
            reason = f"is another build of {step.model} than {known.build!r}, which an earlier step takes"
            raise SpecError.of(f"{field}.build", step.build, reason, "take the same build in all steps")
    return found


def _require_onnxruntime(other: Job, field: str) -> None:
    engine = require_build(other.model, other.build, field).engine
    if engine != "onnxruntime":
        reason = f"is built for {engine}, and builds that share an image are those of onnxruntime"
        raise SpecError.of(field, other.build, reason, "name a build with `engine: onnxruntime`")


def _require_plain(other: Job, field: str) -> None:
    """Refuse what only an image of the model's own can have."""
    layout = other.model.layout
    for name, given in (("numbers", layout.numbers), ("ensemble", layout.ensemble), ("warmup", layout.warmup == "samples")):
        if given:
            reason = f"says `layout.{name}`, which holds in an image of its own and not in another model's ensemble"
            raise SpecError.of(f"{field}.model", other.model.name, reason, f"remove `layout.{name}` there")
