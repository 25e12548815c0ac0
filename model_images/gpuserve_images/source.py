"""Stage 1: from a declared source to a checked local ONNX file."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.errors import ImageError
from gpuserve_images.records import StageRecord, sha256_file
from gpuserve_images.spec import SourceSpec
from gpuserve_images.wire import truncation

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

FIELD = "source"
MAX_PROTOBUF_BYTES = 2**31 - 1
"""Largest message that protobuf can hold; larger models keep their weights in external files."""


class SourceError(ImageError):
    """The model file cannot be used."""


@dataclass(frozen=True)
class SourceFile:
    """A model file that lies on this machine.

    Attributes:
        path: The ONNX file.
        sha256: Hash of its content.
        external: The files its weights lie in, when they are not inside.
    """

    path: Path
    sha256: str
    external: tuple[Path, ...] = ()

    @property
    def record(self) -> StageRecord:
        """What this stage did."""
        outputs = {self.path.name: self.sha256, **{file.name: sha256_file(file) for file in self.external}}
        return StageRecord(stage="source", outputs=outputs)


def locate(source: SourceSpec, folder: Path) -> Path:
    """Return where the model file is, without reading it.

    Args:
        source: The declared source.
        folder: Folder of the model's YAML file, which `file` is relative to.

    Raises:
        SourceError: When the package or the file is missing, or the file is empty.
    """
    if source.package is not None and source.path is not None:
        path = package_folder(source.package, f"{FIELD}.package") / source.path
        field, value = f"{FIELD}.path", source.path
    else:
        path = (folder / str(source.file)).resolve()
        field, value = f"{FIELD}.file", str(source.file)
    if not path.is_file():
        reason = "is a folder, not a model file" if path.is_dir() else f"does not exist (looked for {path})"
        raise SourceError(field, reason, "Name an existing ONNX file.", value=value)
    if path.stat().st_size == 0:
        raise SourceError(field, f"is empty: {path} has 0 bytes", "Export or copy the model again.", value=value)
    return path


def package_folder(package: str, field: str) -> Path:
    """Return the folder of an installed package, without importing it.

    Raises:
        SourceError: When it is not installed, or is a single module.
    """
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        fix = f"Install it, or name the folder it is imported by: pip install {package}"
        raise SourceError(field, "is not an installed Python package", fix, value=package)
    if not spec.submodule_search_locations:
        raise SourceError(field, "is a single module and ships no files", "Name a package.", value=package)
    return Path(next(iter(spec.submodule_search_locations)))


def resolve(source: SourceSpec, folder: Path) -> SourceFile:
    """Find the model file and check that it is whole: ONNX, complete, with all its external data.

    Raises:
        SourceError: Naming the file, the value, the reason and what to do.
    """
    path = locate(source, folder)
    try:
        model = load(path)
    except SourceError as error:
        field = f"{FIELD}.path" if source.package is not None else f"{FIELD}.file"
        raise SourceError(field, error.reason, error.fix, value=error.where) from error
    return SourceFile(path, sha256_file(path), tuple(_external_files(model, path)))


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


def _external_files(model: "ModelProto", path: Path) -> Iterator[Path]:
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
