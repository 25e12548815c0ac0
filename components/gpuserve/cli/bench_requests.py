"""What callers of `gpuserve bench` send: the YAML's samples, or generated inputs; to an ensemble, those of the models that take them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gpuserve.cli.bench_options import BenchError, ranges, shapes
from gpuserve.cli.bench_wish import Wish
from gpuserve.kubernetes.errors import suggestion

if TYPE_CHECKING:
    from gpuserve_images.layouts.spec import EnsembleSpec
    from gpuserve_images.onnx_model.signature import Signature
    from gpuserve_images.spec import ModelSpec
    from gpuserve_images.verify.inputs import Requests

Known: TypeAlias = "Callable[[Wish, ModelSpec], Path | Signature]"
"""Gives what is known of a model: its ONNX file, whose tables bound what is generated, or its inputs alone."""


def requests_to(
    wish: Wish, declared: "ModelSpec | None", known: "Path | Signature", names: Mapping[str, str] | None = None
) -> "Requests":
    """Return what callers send to one model.

    Args:
        wish: The options.
        declared: The model's YAML.
        known: Its ONNX file, or its inputs.
        names: What the options call its inputs, where they call them otherwise.

    Raises:
        BenchError: When batches are wanted of a model that keeps requests apart.
        ImageError: When samples do not fit the model, or inputs cannot be generated.
    """
    from gpuserve_images.onnx_model.signature import read_signature
    from gpuserve_images.verify.inputs import generated_inputs, verification_inputs

    source, signature = (known, read_signature(known)) if isinstance(known, Path) else (None, known)
    if declared is not None:
        signature = declared.batch.seen(signature)
        if signature.alone and max(wish.batches) > 1:
            value = ",".join(map(str, wish.batches))
            raise BenchError(
                "--batch", value, "is of requests that the model's YAML keeps apart", "leave it out, or `batch: none`"
            )
    spec = wish.generate(declared, names)
    if spec is not None:
        return generated_inputs(signature, spec, max(wish.batches), source)
    assert declared is not None  # noqa: S101 - without a YAML, inputs are generated
    assert wish.file is not None  # noqa: S101 - the YAML came from it
    build = wish.build or next(iter(declared.builds))
    return verification_inputs(declared, build, wish.file.parent, signature, source)


def requests_by_model(wish: Wish, declared: "ModelSpec", ensemble: "EnsembleSpec", known: Known) -> dict[str, "Requests"]:
    """Return what callers send to an ensemble, as requests to each of the models that take a tensor of it.

    Args:
        wish: The options, which speak of the ensemble's tensors.
        declared: The YAML that declares the ensemble.
        ensemble: The ensemble.
        known: Gives what is known of each model.

    Raises:
        BenchError: When an option names no input of the ensemble.
        ImageError: When samples do not fit a model, or inputs cannot be generated.
    """
    from gpuserve_images.asking import Asking
    from gpuserve_images.layouts.steps import takers
    from gpuserve_images.verify.ensemble import asked_models

    assert wish.file is not None  # noqa: S101 - the YAML came from it
    for option, given in (("--shape", shapes(wish.shapes)), ("--range", ranges(wish.ranges))):
        for name in given:
            if name not in ensemble.inputs:
                raise BenchError(option, name, f"is no input of ensemble {ensemble.name}", suggestion(name, ensemble.inputs))
    models = Asking(declared, wish.file.parent).models
    builds = {step.model: step.build for step in ensemble.steps if step.build}
    taken = takers(ensemble)
    found: dict[str, Requests] = {}
    for model in asked_models(ensemble):
        part = replace(wish, build=builds.get(model, wish.build))
        names = {own: name for name, (taker, own) in taken.items() if taker == model}
        found[model] = requests_to(part, models[model], known(part, models[model]), names)
    return found
