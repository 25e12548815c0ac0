"""ONNX files: parsed and found to be whole before any stage works on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.wire import truncation

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto


def load(path: Path) -> "ModelProto":
    """Parse and check an ONNX file; weights in external files are not read.

    Raises:
        SourceError: When it is not ONNX, truncated, or invalid.
    """
    import onnx
    from google.protobuf.message import DecodeError

    broken = truncation(path)
    if broken is not None:
        raise SourceError(str(path), broken.reason, broken.fix)
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        reason = f"is a damaged ONNX file: {error}"
        raise SourceError(str(path), reason, "Export or copy the model again.") from error
    if not model.graph.node:
        raise SourceError(str(path), "holds no operators", "Export a whole model, not its weights alone.")
    if not model.opset_import:
        raise SourceError(str(path), "declares no operator set", "Export the model again with an opset of 13 or later.")
    return model


def check(path: Path) -> None:
    """Run ONNX's own checker over a file whose external data was found to be complete.

    Raises:
        SourceError: With the checker's finding.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        finding = " ".join(str(error).split())
        raise SourceError(str(path), f"is not a valid ONNX model: {finding}", "Export the model again.") from error


def external_files(model: "ModelProto", path: Path) -> Iterator[Path]:
    """Yield the files that a model keeps weights in, each found to be there and long enough.

    Raises:
        SourceError: When one is missing, too short, or outside of the model's folder.
    """
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    seen: dict[Path, None] = {}
    for tensor in _tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        info = ExternalDataInfo(tensor)
        file = (path.parent / info.location).resolve()
        where = f"{path}: tensor {tensor.name}"
        if not file.is_relative_to(path.parent.resolve()):
            reason = "keeps its weights outside of the model's folder"
            raise SourceError(where, reason, "Save the model with its weights beside it.", value=info.location)
        if not file.is_file():
            reason = f"keeps its weights in a file that is missing: {file}"
            raise SourceError(where, reason, "Copy that file beside the model.", value=info.location)
        needed = int(info.offset or 0) + int(info.length or 0)
        size = file.stat().st_size
        if needed > size:
            reason = f"needs {needed} bytes of {file}, which has {size}"
            raise SourceError(where, reason, "The file is truncated: copy it again.", value=info.location)
        seen[file] = None
    yield from seen


def _tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)
