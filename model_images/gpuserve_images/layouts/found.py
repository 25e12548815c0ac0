"""What ONNX Runtime finds the outputs of a model to be, where its file says less."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.layouts.served import LayoutError, ServedModel
from gpuserve_images.onnx_model.session import quiet_options
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Shapes = Mapping[str, tuple[int, ...]]
"""Output -> its shape; one of unknown rank is not among them."""


def with_found_outputs(model: ServedModel, offered: Sequence[int] = (), *, exact: bool = True) -> ServedModel:
    """Return an ONNX model with the shapes of its outputs as ONNX Runtime reports them for the versions that are offered.

    ONNX Runtime infers more than a file declares, and an optimised file declares more than its source. Triton's ONNX Runtime backend
    loads no model whose configuration differs from what it is told then, by so much as a free axis (`CompareDimsSupported` in
    https://github.com/triton-inference-server/onnxruntime_backend, `src/onnxruntime_utils.cc`). Names, types and inputs stay as they are.

    Args:
        model: The model.
        offered: Numbers of the versions that the server loads. Default: the newest.
        exact: Whether the server compares shapes as that backend does. Our CPU server does not: an axis that versions differ in is
            declared to be free there.

    Raises:
        LayoutError: When the server compares, and versions differ: they have one configuration.
    """
    signature = model.signature
    if signature is None:
        return model
    numbers = tuple(offered) or (max(model.versions),)
    declared = [_outputs(signature, _found(model.version(number).path)) for number in numbers]
    if exact:
        _require_alike(model, dict(zip(numbers, declared, strict=True)))
    outputs = tuple(_common(tensors) for tensors in zip(*declared, strict=True))
    return replace(model, signature=signature.model_copy(update={"outputs": outputs}))


def opened(file: Path) -> "InferenceSession | None":
    """Return a model in ONNX Runtime on this machine's processor, or None where it cannot be loaded there: it may be for GPUs only."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(file), quiet_options(), providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - its errors have no common class; a model for GPUs only may still be served as it is
        return None


def _found(file: Path) -> Shapes:
    """Return the shapes of outputs by name; none where ONNX Runtime cannot load the model here."""
    session = opened(file)
    return {
        output.name: tuple(size if isinstance(size, int) and size > 0 else DYNAMIC for size in output.shape)
        for output in (session.get_outputs() if session else ())
    }


def _outputs(signature: Signature, found: Shapes) -> tuple[TensorSpec, ...]:
    # An unknown shape is reported as an empty one: what the file's source says is more then.
    shapes = ((tensor, found.get(tensor.name)) for tensor in signature.outputs)
    return tuple(tensor.model_copy(update={"shape": shape}) if shape else tensor for tensor, shape in shapes)


def _common(tensors: Sequence[TensorSpec]) -> TensorSpec:
    """Return what all versions have of an output: the sizes that they agree on, or the newest one's where not even their number."""
    newest = tensors[-1]
    if any(len(tensor.shape) != len(newest.shape) for tensor in tensors):
        return newest
    sizes = zip(*(tensor.shape for tensor in tensors), strict=True)
    return newest.model_copy(update={"shape": tuple(size[0] if len(set(size)) == 1 else DYNAMIC for size in sizes)})


def _require_alike(model: ServedModel, outputs: Mapping[int, Sequence[TensorSpec]]) -> None:
    newest = max(outputs)
    for number, tensors in outputs.items():
        for tensor, other in zip(tensors, outputs[newest], strict=True):
            if tensor.shape != other.shape:
                reason = (
                    f"offers versions {number} and {newest} of {model.name} at once, and of output {tensor.name} ONNX Runtime finds "
                    f"{_said(tensor)} in one and {_said(other)} in the other, which Triton has one configuration for"
                )
                raise LayoutError("layout.versions", reason, "Offer one of them, or give each build an image of its own.")


def _said(tensor: TensorSpec) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
