"""Stage 1: from a declared source to a checked local ONNX file."""

from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import external_files, load
from gpuserve_images.records import StageRecord, sha256_file
from gpuserve_images.sources.packages import package_folder
from gpuserve_images.sources.spec import SourceSpec

FIELD = "source"


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
    return SourceFile(path, sha256_file(path), tuple(external_files(model, path)))
