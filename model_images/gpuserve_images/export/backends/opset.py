"""The operator set that a converter was asked for, declared where it wrote a lower one."""

from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from onnx import ModelProto


def at_opset(model: "ModelProto", opset: int) -> "ModelProto":
    """Return the model at an opset; skl2onnx declares the lowest one that its nodes need, and some domains twice."""
    declared = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in sorted(declared.items()))
    if declared.get("", opset) != opset:
        return onnx.version_converter.convert_version(model, opset)
    return model
