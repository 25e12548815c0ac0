"""An ensemble from outside: the order of its steps, who takes what a request brings, and who makes what the answer holds."""

from collections.abc import Mapping
from graphlib import TopologicalSorter

from gpuserve_images.layouts.spec import EnsembleSpec, StepSpec
from gpuserve_images.samples.codec import Tensors


def waits(spec: EnsembleSpec) -> dict[int, set[int]]:
    """Return for each step, by its place in the declaration, the steps whose tensors it takes."""
    made_by = {name: index for index, step in enumerate(spec.steps) for name in step.outputs.values()}
    return {index: {made_by[name] for name in step.inputs.values() if name in made_by} for index, step in enumerate(spec.steps)}


def in_order(spec: EnsembleSpec) -> tuple[StepSpec, ...]:
    """Return the steps so that each comes after those it waits for.

    Raises:
        CycleError: When some wait for each other.
    """
    return tuple(spec.steps[index] for index in TopologicalSorter(waits(spec)).static_order())


def takers(spec: EnsembleSpec) -> dict[str, tuple[str, str]]:
    """Return for each tensor of a request the model that takes it, the first where there are several, and what it is called there."""
    taken = {name: (step.model, own) for step in reversed(spec.steps) for own, name in step.inputs.items()}
    return {name: taken[name] for name in spec.inputs if name in taken}


def as_request(spec: EnsembleSpec, given: Mapping[str, Tensors]) -> Tensors:
    """Return a request to an ensemble.

    Args:
        spec: The ensemble.
        given: For each model that takes a tensor of the request, a request to that model alone.
    """
    return {name: given[model][own] for name, (model, own) in takers(spec).items()}


def answering(spec: EnsembleSpec, first: str) -> StepSpec | None:
    """Return a step whose used outputs are all in the answer, so that its model's own words can be said of it; None without one.

    Args:
        spec: The ensemble.
        first: The model that is preferred; the others come in the order of the declaration.
    """
    steps = sorted(spec.steps, key=lambda step: step.model != first)
    return next((step for step in steps if set(step.outputs.values()) <= set(spec.outputs)), None)
