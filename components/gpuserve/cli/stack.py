"""A stack file, loaded and composed: what every command starts from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve.kubernetes.metadata import Manifest
from gpuserve.platform.compose import ImageOf, Plan, compose, image_requests
from gpuserve.platform.images import attached_capacities, tagged_images
from gpuserve.platform.load import CONFIG_KEY, Environment, load_stack, stack_file
from gpuserve.platform.quotas import quota_holds_the_most
from gpuserve.platform.render import render, render_in_waves
from gpuserve_images.errors import ImageError


class ModelFilesError(GpuserveError):
    """Models of a stack cannot become images; all of them at once, each with the file that it is declared in."""


@dataclass(frozen=True)
class Stack:
    """One environment with everything that follows from its files.

    Attributes:
        name: The environment's name.
        environment: The validated files.
        plan: The specs of every component.
        images: References by content tag of every image that the stack builds.
        file: The stack file.
    """

    name: str
    environment: Environment
    plan: Plan
    images: frozenset[str]
    file: Path

    def manifests(self, *, waves: bool = False) -> Iterator[Manifest]:
        """Yield every manifest in an order in which they can be applied; with Argo CD's annotations for it when ``waves`` is true."""
        return (render_in_waves if waves else render)(self.plan)

    def notes(self) -> Iterator[str]:
        """Yield what works and may surprise, each with its place in the stack file and what to write instead."""
        for problem in quota_holds_the_most(self.environment.platform):
            yield str(replace(problem, field=f"config.{CONFIG_KEY}.{problem.field}", file=str(self.file)))


def open_stack(name: str, stacks: Path, *, measured: bool = False) -> Stack:
    """Load the stack ``name`` from the folder ``stacks``.

    Args:
        name: The environment's name.
        stacks: Folder of the stack files.
        measured: Ask the registry for the measured capacity of services that scale without naming a target. Default: a stand-in
            takes its place, for commands that do not show manifests.

    Raises:
        SpecError: With every problem of the files; where a capacity is asked for, also when none was measured.
        ModelFilesError: When model files cannot be used.
        RegistryError: When a capacity is asked for and the registry cannot be asked.
    """
    environment = load_stack(name, stacks)
    image_of = tagged_images(environment)
    images, file = _references(environment, image_of), stack_file(name, stacks)
    if not measured:
        return Stack(name, environment, compose(environment, image_of), images, file)
    capacity_of = attached_capacities(environment, image_of, file=str(file), path=f"config.{CONFIG_KEY}")
    return Stack(name, environment, compose(environment, image_of, capacity_of), images, file)


def _references(environment: Environment, image_of: ImageOf) -> frozenset[str]:
    """Return every image's reference; a broken model file does not hide the next one."""
    references: set[str] = set()
    errors: dict[str, None] = {}
    for request in image_requests(environment.platform):
        try:
            references.add(image_of(request))
        except ImageError as error:
            errors[f"{environment.folder / request.model}.yaml: {error}"] = None
    if errors:
        raise ModelFilesError("\n".join(errors))
    return frozenset(references)
