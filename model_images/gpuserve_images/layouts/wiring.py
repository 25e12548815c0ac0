"""How tensors go through an ensemble: each one made once, used, of one type and shape, and never in a circle."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from gpuserve.kubernetes.errors import suggestion
from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.layouts.spec import EnsembleSpec, StepSpec
from gpuserve_images.layouts.steps import waits
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec, carried


@dataclass(frozen=True)
class _End:
    """One end of a wire: an input or an output of a step's model."""

    field: str
    model: str
    tensor: TensorSpec


def wired_signature(spec: EnsembleSpec, models: Mapping[str, Signature]) -> Signature:
    """Return the inputs and outputs of an ensemble.

    Args:
        spec: The ensemble.
        models: Signatures of the models by name.

    Raises:
        LayoutError: When a step names an unknown model, input or output; when a tensor is missing, listed or made twice, never used, has a name
            that none may have, or is of another type or shape than a model takes; when steps wait for each other.
    """
    _require_names(spec)
    for index, step in enumerate(spec.steps):
        _require_model(index, step, models)
    makers = _makers(spec, models)
    takers = _takers(spec, models)
    _require_sources(spec, makers, takers)
    _require_uses(spec, makers, takers)
    _require_order(spec)
    for name, ends in takers.items():
        _require_agreement(name, [*makers.get(name, ()), *ends])
    return Signature(
        inputs=tuple(_joined(name, takers[name]) for name in spec.inputs),
        outputs=tuple(_joined(name, makers[name]) for name in spec.outputs),
        opset=max(signature.opset for signature in models.values()),
    )


def require_served_alike(spec: EnsembleSpec, models: Mapping[str, Signature]) -> None:
    """Refuse tensors that Triton has with two axes in one model and with one in another.

    A batched tensor of one axis, such as a label, is `[batch, 1]` there. In an ensemble of batched models alone it is so everywhere; where it
    comes from or goes to a model that runs each request by itself, Triton does not load the ensemble, or answers no request to it. Nor does
    it where such a tensor is the request's. The answer may hold one.

    Args:
        spec: The ensemble, wired as `wired_signature` has it.
        models: Signatures of the models by name, with their batch axis as it was declared.

    Raises:
        LayoutError: Naming the tensor.
    """
    alone = [step.model for step in spec.steps if not models[step.model].batched]
    if not alone:
        return
    makers, takers = _makers(spec, models), _takers(spec, models)
    for name, ends in takers.items():
        given = [end for end in (*makers.get(name, ()), *ends) if len(end.tensor.shape) == 1]
        batched = [end for end in given if models[end.model].batched]
        if batched and (name in spec.inputs or len(batched) < len(given)):
            end = batched[0]
            reason = (
                f"has one axis in {end.model}, which Triton gives a second one for its batches, and {alone[0]} has no batches"
            )
            fix = f"Write `batch: none` in {end.model}, or give the tensor a second axis in it."
            raise LayoutError(end.field, reason, fix, value=f"{end.tensor.dtype} {list(end.tensor.shape)}")


def _require_names(spec: EnsembleSpec) -> None:
    """Refuse what Triton would be told twice, and names that no model's own tensor may have (see `carried`)."""
    for field, names in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        for index, name in enumerate(names):
            if name in names[:index]:
                where = f"layout.ensemble.{field}[{index}]"
                raise LayoutError(where, f"is listed at {names.index(name)} too", "List each tensor once.", value=name)
    made = {
        f"steps[{index}].outputs.{own}": name for index, step in enumerate(spec.steps) for own, name in step.outputs.items()
    }
    for field, name in ({f"inputs[{index}]": name for index, name in enumerate(spec.inputs)} | made).items():
        if not carried(name):
            reason = "is no name of a tensor: it is empty, or has spaces or control characters in it"
            fix = "Choose another: letters, digits and _ . : / - are safe everywhere."
            raise LayoutError(f"layout.ensemble.{field}", reason, fix, value=repr(name))


def _require_model(index: int, step: StepSpec, models: Mapping[str, Signature]) -> None:
    where = f"layout.ensemble.steps[{index}]"
    if step.model not in models:
        reason = "is no model of this repository"
        raise LayoutError(f"{where}.model", reason, suggestion(step.model, models), value=step.model)
    signature = models[step.model]
    inputs = {tensor.name for tensor in signature.inputs}
    outputs = {tensor.name for tensor in signature.outputs}
    for field, given, known in (("inputs", step.inputs, inputs), ("outputs", step.outputs, outputs)):
        for name in given:
            if name not in known:
                reason = f"is no {field.removesuffix('s')} of model {step.model}"
                raise LayoutError(f"{where}.{field}", reason, suggestion(name, known), value=name)
    missing = sorted(inputs - step.inputs.keys())
    if missing:
        fix = "Name the tensor that each of them takes."
        raise LayoutError(f"{where}.inputs", f"leaves inputs of model {step.model} without a tensor", fix, value=str(missing))


def _makers(spec: EnsembleSpec, models: Mapping[str, Signature]) -> dict[str, list[_End]]:
    makers: dict[str, list[_End]] = {}
    for name, end in _ends(spec, models, "outputs"):
        if name in makers or name in spec.inputs:
            other = makers[name][0].field if name in makers else "the request"
            raise LayoutError(end.field, f"is made by {other} too", "Give each tensor a name of its own.", value=name)
        makers[name] = [end]
    return makers


def _takers(spec: EnsembleSpec, models: Mapping[str, Signature]) -> dict[str, list[_End]]:
    takers: dict[str, list[_End]] = {}
    for name, end in _ends(spec, models, "inputs"):
        takers.setdefault(name, []).append(end)
    return takers


def _ends(spec: EnsembleSpec, models: Mapping[str, Signature], side: str) -> Iterator[tuple[str, _End]]:
    for index, step in enumerate(spec.steps):
        signature = models[step.model]
        tensors = {tensor.name: tensor for tensor in (signature.inputs if side == "inputs" else signature.outputs)}
        wires = step.inputs if side == "inputs" else step.outputs
        for own, name in wires.items():
            yield name, _End(f"layout.ensemble.steps[{index}].{side}.{own}", step.model, tensors[own])


def _require_sources(spec: EnsembleSpec, makers: Mapping[str, object], takers: Mapping[str, Sequence[_End]]) -> None:
    known = {*spec.inputs, *makers}
    for name, ends in takers.items():
        if name not in known:
            reason = "takes a tensor that neither the request nor a step brings"
            raise LayoutError(ends[0].field, reason, suggestion(name, known), value=name)
    for index, name in enumerate(spec.outputs):
        if name not in makers:
            reason = "is a tensor that no step makes"
            raise LayoutError(f"layout.ensemble.outputs[{index}]", reason, suggestion(name, makers), value=name)


def _require_uses(spec: EnsembleSpec, makers: Mapping[str, Sequence[_End]], takers: Mapping[str, object]) -> None:
    for index, name in enumerate(spec.inputs):
        if name not in takers:
            reason = "is a tensor that no step takes"
            raise LayoutError(f"layout.ensemble.inputs[{index}]", reason, "Remove it, or wire it to a step.", value=name)
    for name, ends in makers.items():
        if name not in takers and name not in spec.outputs:
            reason = "makes a tensor that nothing uses"
            raise LayoutError(ends[0].field, reason, "Remove it, or add it to `layout.ensemble.outputs`.", value=name)


def _require_order(spec: EnsembleSpec) -> None:
    try:
        TopologicalSorter(waits(spec)).prepare()
    except CycleError as error:
        circle = " -> ".join(spec.steps[index].model for index in error.args[1])
        reason = "has steps that wait for each other"
        raise LayoutError("layout.ensemble.steps", reason, "Take a tensor from outside of the circle.", value=circle) from error


def _require_agreement(name: str, ends: Sequence[_End]) -> None:
    """Compare each end with what all before it leave: one of any size may lie between two that want different ones."""
    for number, end in enumerate(ends[1:], 1):
        before = ends[:number]
        left, right = _joined(name, before), end.tensor
        makers = " and ".join(dict.fromkeys(one.field for one in before))
        found = f"{left.dtype} {list(left.shape)} from {makers}, {right.dtype} {list(right.shape)} wanted"
        if left.dtype != right.dtype:
            reason = f"takes tensor {name} with another type"
            raise LayoutError(end.field, reason, "Cast it inside one of the models.", value=found)
        if not _fits(left.shape, right.shape):
            reason = f"takes tensor {name} with another shape"
            raise LayoutError(end.field, reason, "Reshape it inside one of the models.", value=found)


def _fits(left: Sequence[int], right: Sequence[int]) -> bool:
    return len(left) == len(right) and all(DYNAMIC in (one, two) or one == two for one, two in zip(left, right, strict=True))


def _joined(name: str, ends: Sequence[_End]) -> TensorSpec:
    """Return one tensor for all its ends; a dimension that one of them fixes is fixed."""
    shapes = zip(*(end.tensor.shape for end in ends), strict=True)
    return TensorSpec(name=name, dtype=ends[0].tensor.dtype, shape=tuple(max(sizes) for sizes in shapes))
