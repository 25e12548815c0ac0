"""Names of free axes, which TensorRT takes at their word: axes of one name are equal, or the engine refuses the request.

ONNX means the same by them (`TensorShapeProto.Dimension.dim_param`), and ONNX Runtime does not look. So models are about that say otherwise:
exporters from PaddlePaddle call each axis that they do not know `?`, and people call height and width alike.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpuserve_images.compile.profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto


def unname_axes(model: "ModelProto", shapes: Mapping[str, Profile]) -> bool:
    """Take the names off axes of a model's inputs that may differ, and return whether there were any.

    Args:
        model: The model; changed.
        shapes: Profile of each input. Axes of one name that they give other sizes are not equal.
    """
    bounds: dict[str, set[tuple[int, int, int]]] = {}
    named = [
        (value.name, axis, dimension)
        for value in model.graph.input
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim)
        if dimension.dim_param
    ]
    for name, axis, dimension in named:
        if profile := shapes.get(name):
            bounds.setdefault(dimension.dim_param, set()).add(profile.of_axis(axis))
    # ONNX wants an identifier of C.
    apart = [
        dimension
        for *_, dimension in named
        if not dimension.dim_param.isidentifier() or len(bounds.get(dimension.dim_param, ())) > 1
    ]
    for dimension in apart:
        dimension.ClearField("dim_param")
    return bool(apart)
