"""ONNX files: parsed and found to be whole before any stage works on them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.graphs import all_graphs
from gpuserve_images.onnx_model.text import undecodable
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
        raise _damaged(str(path), str(error)) from error
    odd = undecodable(model)
    if odd is not None:
        raise _damaged(str(path), f"{odd} is not text")
    if not model.graph.node:
        raise SourceError(str(path), "holds no operators", "Export a whole model, not its weights alone.")
    if not model.opset_import:
        raise SourceError(str(path), "declares no operator set", "Export the model again with an opset of 13 or later.")
    twice = [name for name, count in Counter(output.name for output in model.graph.output).items() if count > 1]
    if twice:
        raise SourceError(str(path), f"names output {twice[0]} more than once", "Export the model with each output once.")
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
    except UnicodeDecodeError as error:
        # The checker's finding, which repeats bytes of the file that are no text.
        reason = "is not a valid ONNX model: it holds bytes where text belongs"
        raise SourceError(str(path), reason, "Export or copy the model again.") from error


class Weights(NamedTuple):
    """Weights in another file than the model's own.

    Attributes:
        tensor: Name of the tensor.
        location: The file, as the model names it.
        needed: Bytes that the file must have at least.
    """

    tensor: str
    location: str
    needed: int


def external_files(model: "ModelProto", path: Path) -> Iterator[Path]:
    """Yield the files that a model keeps weights in, each found to be there and long enough.

    Raises:
        SourceError: When one is missing, too short, or outside of the model's folder.
    """
    return weight_files(_outside(model), path)


def declared_weights(path: Path) -> tuple[Weights, ...]:
    """Parse and check an ONNX file, and return the weights that it keeps in other files.

    Remembered while the file's size and time of change stay the same: each build of a model asks several times.

    Raises:
        SourceError: When it is not ONNX, truncated, or invalid.
    """
    status = path.stat()
    return _declared(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _declared(path: Path, size: int, changed: int) -> tuple[Weights, ...]:
    del size, changed
    return tuple(_outside(load(path)))


def _outside(model: "ModelProto") -> Iterator[Weights]:
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    for tensor in _tensors(model.graph):
        if uses_external_data(tensor):
            try:
                info = ExternalDataInfo(tensor)
            except ValueError as error:
                raise _damaged(f"tensor {tensor.name}", f"the place of its weights is no place: {error}") from error
            yield Weights(tensor.name, info.location, int(info.offset or 0) + int(info.length or 0))


def weight_files(weights: Iterable[Weights], path: Path) -> Iterator[Path]:
    """Yield the files of declared weights, each found to be there and long enough; they are named below the folder of `path`.

    Raises:
        SourceError: When one is missing, too short, or outside of the folder of `path`, the model's own file.
    """
    seen: dict[Path, None] = {}
    for tensor, location, needed in weights:
        where = f"{path}: tensor {tensor}"
        try:
            name = os.path.relpath(path.parent / location, path.parent)
            file = path.parent / name
            real = (path.parent / location).resolve()
            inside = ".." not in Path(name).parts and real == file.resolve() and real.is_relative_to(path.parent.resolve())
            size = file.stat().st_size if file.is_file() else None
        except (OSError, ValueError) as error:
            # Too long a name, or one with a zero byte.
            raise _damaged(where, f"the name of its weights' file is no name of a file: {error}") from error
        if not inside:
            reason, fix = "keeps its weights outside of the model's folder", "Save the model with its weights beside it."
            if file.is_symlink() and ".." not in Path(name).parts:
                reason = f"keeps its weights in a link out of the model's folder, to {real}"
                fix = "ONNX follows no such link: copy the model with what its links stand for (`cp -rL`), or name it as `hf://...`."
            raise SourceError(where, reason, fix, value=location)
        if size is None:
            reason = f"keeps its weights in a file that is missing: {file}"
            raise SourceError(where, reason, "Copy that file beside the model.", value=location)
        if needed > size:
            reason = f"needs {needed} bytes of {file}, which has {size}"
            raise SourceError(where, reason, "The file is truncated: copy it again.", value=location)
        seen[file] = None
    yield from seen


def _damaged(where: str, finding: str) -> SourceError:
    return SourceError(where, f"is a damaged ONNX file: {finding}", "Export or copy the model again.")


def _tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    for each in all_graphs(graph):
        yield from each.initializer
        for node in each.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
