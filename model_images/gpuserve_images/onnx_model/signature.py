"""Stage 2: a model's signature, read from the model itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from onnx import ModelProto, ValueInfoProto

DYNAMIC = -1

DATA_TYPES: dict[str, tuple[str, str]] = {
    "FLOAT": ("FP32", "float32"),
    "DOUBLE": ("FP64", "float64"),
    "FLOAT16": ("FP16", "float16"),
    "INT8": ("INT8", "int8"),
    "INT16": ("INT16", "int16"),
    "INT32": ("INT32", "int32"),
    "INT64": ("INT64", "int64"),
    "UINT8": ("UINT8", "uint8"),
    "UINT16": ("UINT16", "uint16"),
    "UINT32": ("UINT32", "uint32"),
    "UINT64": ("UINT64", "uint64"),
    "BOOL": ("BOOL", "bool"),
    "STRING": ("BYTES", "object"),
}
"""ONNX tensor type -> (datatype of the open inference protocol v2, NumPy type)."""


class TensorSpec(Spec):
    """Name, type and shape of one input or output.

    Attributes:
        name: Its name in the model.
        dtype: Datatype of the open inference protocol v2, such as `FP32`.
        shape: Dimensions with the batch axis; -1 where any size is allowed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numpy_dtype(self) -> "np.dtype[Any]":
        """The matching NumPy type."""
        import numpy as np

        return np.dtype(next(numpy for v2, numpy in DATA_TYPES.values() if v2 == self.dtype))


class Signature(Spec):
    """What a model takes and gives.

    Attributes:
        inputs: Inputs that a request must carry.
        outputs: Outputs of the graph.
        opset: Version of the standard ONNX operator set.
        alone: Whether each request is run by itself, though its first axes may be free: they hold something else than requests, such as
            points or samples of sound. No file says so, its model's owner does. Default: no.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    alone: bool = False

    @property
    def batched(self) -> bool:
        """Whether requests can be joined: the first axis of every input and output is free, and nobody said that it is no batch."""
        return not self.alone and all(tensor.shape[:1] == (DYNAMIC,) for tensor in (*self.inputs, *self.outputs))

    def same_interface(self, other: Self) -> bool:
        """Whether clients see no difference; free dimensions may be known more exactly on one side."""
        return self.difference(other) is None

    def difference(self, other: Self) -> str | None:
        """Return the first difference that clients see in the other one, in words, or None."""
        for role, own, others in (("input", self.inputs, other.inputs), ("output", self.outputs, other.outputs)):
            if len(own) != len(others):
                return f"{role}s {_names(others)} in place of {_names(own)}"
            for left, right in zip(own, others, strict=True):
                if not _compatible(left, right):
                    return f"{role} {_said(right)} in place of {_said(left)}"
        return None


def carried(name: str) -> bool:
    """Tell whether an input or output may be called so: one word of characters that can be seen.

    ONNX asks for C identifiers (docs/IR.md, "Names Within a Graph"), which exporters do not keep to: `serving_default_x:0` and `495` are
    common and do no harm. Spaces and control characters are nobody's habit, and are lost in configurations and command lines.
    """
    return bool(name) and name.isprintable() and " " not in name


def read_signature(path: Path) -> Signature:
    """Read the signature of an ONNX file.

    Raises:
        SourceError: When the file is no whole ONNX model, has no inputs, or has a name or a type that no server can take.
    """
    model = load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    for role, values in (("inputs", inputs), ("outputs", list(model.graph.output))):
        if not values:
            raise SourceError(str(path), f"has no {role}", f"Export the model with named {role}.")
    for value in inputs:
        _require_numbers(value, path)
    return Signature(inputs=_tensors(inputs, path), outputs=_tensors(model.graph.output, path), opset=_opset(model))


def _require_numbers(value: "ValueInfoProto", path: Path) -> None:
    """Refuse an input with a size of 0, which ONNX Runtime takes at its word: nobody could send it a number."""
    sizes = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in value.type.tensor_type.shape.dim]
    if 0 in sizes:
        shown = [
            dim.dim_param or ("any" if size is None else size)
            for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True)
        ]
        reason = f"declares a size of 0 at axis {sizes.index(0)}, so that no request has a number in it"
        fix = "Export the model with a name for that axis where any size is meant (`dynamic_axes`, `dim_param`), or with its size."
        raise SourceError(f"{path}: {value.name}", reason, fix, value=str(shown))


def _tensors(values: "Iterable[ValueInfoProto]", path: Path) -> tuple[TensorSpec, ...]:
    return tuple(_tensor(value, path) for value in values)


def _tensor(value: "ValueInfoProto", path: Path) -> TensorSpec:
    from onnx import TensorProto

    if not carried(value.name):
        reason = "has an input or output whose name is empty, or has spaces or control characters in it"
        fix = "Export the model with other names: letters, digits and _ . : / - are safe everywhere."
        raise SourceError(str(path), reason, fix, value=repr(value.name))
    where = f"{path}: {value.name}"
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        reason = "is not a tensor, and inference servers carry tensors only"
        raise SourceError(where, reason, "Export the model with tensor inputs and outputs.", value=kind)
    tensor = value.type.tensor_type
    names = {number: name for name, number in TensorProto.DataType.items()}
    onnx_type = names.get(tensor.elem_type, str(tensor.elem_type))
    if onnx_type not in DATA_TYPES:
        reason = "has a type that the inference protocol cannot carry"
        raise SourceError(where, reason, f"Cast it inside the model to one of {sorted(DATA_TYPES)}.", value=onnx_type)
    if not tensor.HasField("shape"):
        fix = "Export the model with shapes, or run ONNX shape inference."
        raise SourceError(where, "declares no shape", fix)
    dims = (dim.dim_value if dim.WhichOneof("value") == "dim_value" else DYNAMIC for dim in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=DATA_TYPES[onnx_type][0], shape=tuple(dim if dim > 0 else DYNAMIC for dim in dims))


def _opset(model: "ModelProto") -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def _names(tensors: "Iterable[TensorSpec]") -> str:
    return ", ".join(tensor.name for tensor in tensors)


def _said(tensor: TensorSpec) -> str:
    return f"{tensor.name} ({tensor.dtype} {list(tensor.shape)})"


def _compatible(left: TensorSpec, right: TensorSpec) -> bool:
    return (left.name, left.dtype, len(left.shape)) == (right.name, right.dtype, len(right.shape)) and all(
        DYNAMIC in (one, two) or one == two for one, two in zip(left.shape, right.shape, strict=True)
    )
