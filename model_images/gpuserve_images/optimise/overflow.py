"""Which nodes must not be computed in half precision, and why: FP16 ends at 65504 and has 11 bits of significand."""

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuserve_images.onnx_model.schemas import types_of
from gpuserve_images.optimise.counting import counting

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LARGEST = 65504.0
"""Largest finite FP16 value (IEEE 754 binary16)."""

SMALLEST_NORMAL = 2.0**-14
"""Below it FP16 values lose bits of their significand, and end at 2**-24."""

SMALLEST = 2.0**-24
"""Smallest FP16 value over zero. What guards a division or a logarithm from zero and is smaller does so no longer."""

HEADROOM = 8.0
"""Samples show most of the values that will come, not all: what comes within three binary orders of the end is kept in fp32."""

ACCUMULATING = (
    "CumSum",
    "Exp",
    "Pow",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
"""Operators whose results, or sums on the way to them, outgrow their inputs. `Reduce` and `Pow` are the two that TensorRT itself warns of
when it finds a normalisation written out in FP16 operators. Softmax and the normalisation operators are not among them: their kernels
subtract the maximum or sum in FP32."""

PASSING = ("Expand", "Identity", "Reciprocal", "Reshape", "Sqrt", "Squeeze", "Tile", "Transpose", "Unsqueeze")
"""Operators that leave a value which FP16 cannot hold one that it cannot hold, or that the next node must not take for zero."""


def kept_in_fp32(model: "ModelProto", largest: Mapping[str, float], wanted: Container[str]) -> dict[str, str]:
    """Return the nodes to keep in fp32, each with the reason.

    Args:
        model: The model, its nodes named.
        largest: Largest magnitude of tensors, as measured on samples; tensors that it lacks are not judged.
        wanted: Names of the nodes that the user wants kept.
    """
    nodes = list(model.graph.node)
    constants = {tensor.name: unfit for tensor in model.graph.initializer if (unfit := _unfit(tensor))}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    guarded: dict[str, str] = {}
    kept: dict[str, str] = {}
    for node in nodes:
        unfit = _unfit_of(node, constants)
        small = [guarded[name] for name in node.input if name in guarded]
        values = [name for name in (*node.input, *node.output) if largest.get(name, 0.0) > LARGEST / HEADROOM]
        if node.name in wanted:
            kept[node.name] = "named in keep_fp32"
        elif _without_half(node, opsets):
            kept[node.name] = f"{node.op_type} has no FP16 form"
        elif node.op_type in ACCUMULATING:
            kept[node.name] = f"{node.op_type} outgrows its inputs"
        elif unfit:
            kept[node.name] = "{} {}".format(*next((name, found.reason) for name, found in unfit.items()))
        elif small:
            kept[node.name] = f"follows {small[0]}, which FP16 takes for zero"
        elif values:
            kept[node.name] = f"{values[0]} reaches {largest[values[0]]:.3g}"
        passed = small[:1] if node.op_type in PASSING else []
        for name in [name for name, found in unfit.items() if found.largest < SMALLEST][:1] or passed:
            guarded |= dict.fromkeys(node.output, name)
    return dict.fromkeys(counting(model), "counts, and FP16 skips numbers from 2048 on") | kept


def _unfit_of(node: "NodeProto", constants: "dict[str, _Unfit]") -> "dict[str, _Unfit]":
    """Return what a node has of constants that must not become FP16; what ConstantOfShape fills with one is added to the constants."""
    unfit = {f"constant {name}": constants[name] for name in node.input if name in constants}
    for own in node.attribute:
        if own.HasField("t") and (found := _unfit(own.t)):
            unfit[own.name] = found
            constants |= dict.fromkeys(node.output, found)
    return unfit


class _Unfit(NamedTuple):
    """A constant that must not become FP16: its largest magnitude, and why in words."""

    largest: float
    reason: str


def _without_half(node: "NodeProto", opsets: Mapping[str, int]) -> bool:
    """Return whether an operator takes or gives FP32 where it does not take or give FP16, in the operator set of its model.

    The converter has a list of its own, which lacks Celu, and QuantizeLinear as it was before operator set 19.
    """
    from onnxruntime.transformers.float16 import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST

    if node.op_type in (*DEFAULT_OP_BLOCK_LIST, *ALWAYS_FLOAT_INPUTS):
        return False
    types = types_of(node, opsets.get(node.domain, 1))
    return any("tensor(float)" in found and "tensor(float16)" not in found for found in types)


def _unfit(tensor: "TensorProto") -> _Unfit | None:
    """Tell of a constant whether it must not become FP16: out of range, or (an epsilon, a layer's scale) too small to keep its value.

    A number beside larger ones may lose its value: what it adds to is of their size.
    """
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = np.abs(numpy_helper.to_array(tensor))
    finite = values[np.isfinite(values)]
    most = float(finite.max(initial=0.0))
    if most > LARGEST:
        return _Unfit(most, f"has {most:.3g}, over {LARGEST:g}")
    if 0 < most < SMALLEST_NORMAL:
        return _Unfit(most, f"is {'' if values.size == 1 else 'at most '}{most:.3g}, below {SMALLEST_NORMAL:.3g}")
    return None
