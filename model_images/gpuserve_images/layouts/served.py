"""What a server is given: the files of a model, version by version."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from gpuserve_images.errors import ImageError
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.records import StageRecord, sha256_file
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.sources.digests import left_out
from gpuserve_images.target import Target

Files = dict[str, Path | bytes]
"""Paths inside an image, and what is in each."""

Layout = tuple[Files, StageRecord]
"""What a layout gives back: the files of an image, and how they came about."""


class LayoutError(ImageError):
    """A server would not understand the layout, or cannot serve the model."""


@dataclass(frozen=True)
class ModelFiles:
    """One version of a model on this machine.

    Attributes:
        entry: Name of the file that a server opens, one of `files`; for a folder format the file that identifies it.
        files: Files by their path below the model's folder, such as `model.onnx` and the external data beside it.
    """

    entry: str
    files: Mapping[str, Path]

    @classmethod
    def of(cls, path: Path, beside: Iterable[Path] = ()) -> Self:
        """Return the version that is one file with those beside it, or all files below a folder, the first one its entry.

        What Git and the Hugging Face tools keep in a folder is left out, as it is of its digest.

        Args:
            path: A model file or a folder.
            beside: Files in the model file's folder that belong to it, such as external data.

        Raises:
            LayoutError: When a folder is empty.
        """
        if path.is_file():
            return cls(path.name, {file.relative_to(path.parent).as_posix(): file for file in (path, *beside)})
        found = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        files = {name: file for name, file in found.items() if not left_out(name)}
        if not files:
            raise LayoutError(str(path), "holds no files", "Name a model file, or a folder with one.")
        return cls(next(iter(files)), files)

    @property
    def path(self) -> Path:
        """The file that a server opens."""
        return self.files[self.entry]


@dataclass(frozen=True)
class ServedModel:
    """A model as a server is to serve it.

    Attributes:
        name: Name that clients call it by.
        format: What its files are: `onnx`, `tensorrt`, `sklearn`, `xgboost`, `lightgbm`, `torch`, `tensorflow` or `huggingface`.
        versions: Files by version number, from 1.
        signature: Inputs and outputs; None for formats whose server reads them from the model.
    """

    name: str
    format: str
    versions: Mapping[int, ModelFiles]
    signature: Signature | None = None

    @classmethod
    def of(cls, name: str, form: str, path: Path, signature: Signature | None = None, beside: Iterable[Path] = ()) -> Self:
        """Return a model of one version, number 1.

        Args:
            name: Name that clients call it by.
            form: Format of its files.
            path: Its file or folder.
            signature: Inputs and outputs.
            beside: Files in the model file's folder that belong to it, such as external data.
        """
        return cls(name, form, {1: ModelFiles.of(path, beside)}, signature)

    def seen(self, batch: BatchSpec) -> Self:
        """Return the model with its signature as `batch` has it."""
        return self if self.signature is None else replace(self, signature=batch.seen(self.signature))

    @property
    def newest(self) -> ModelFiles:
        """Files of the highest version."""
        return self.versions[max(self.versions)]

    def known_signature(self) -> Signature:
        """Return its inputs and outputs.

        Raises:
            LayoutError: When it comes without them.
        """
        if self.signature is None:
            raise LayoutError(f"model {self.name}", "comes without its inputs and outputs", "Read them from its ONNX file.")
        return self.signature

    def version(self, number: int) -> ModelFiles:
        """Return the files of one version.

        Raises:
            LayoutError: When there is no such version.
        """
        if number not in self.versions:
            reason = f"is no version of model {self.name}, which has {sorted(self.versions)}"
            raise LayoutError("layout.versions.only", reason, "Name versions that the image has.", value=str(number))
        return self.versions[number]


@dataclass(frozen=True)
class Wishes:
    """How a model is to be served.

    Attributes:
        batch: How requests are joined.
        options: What else was said about its server.
        target: Where it will run.
        samples: Requests to warm up with, where `options.warmup` is `samples`; each has a batch of 1.
        scratch: Folder for files that a layout makes itself and that outlive the call; needed for TorchServe's archive.
        allow_pickle: Whether weights may be pickled Python. Default: no.
    """

    batch: BatchSpec = field(default_factory=BatchSpec)
    options: LayoutSpec = field(default_factory=LayoutSpec)
    target: Target = field(default_factory=Target)
    samples: Sequence[Tensors] = ()
    scratch: Path | None = None
    allow_pickle: bool = False


def layout_record(server: str, model: ServedModel, files: Files) -> StageRecord:
    """Return the record of a layout: the hashes of the model's files and their places, and the text of what was written."""
    return StageRecord(
        stage="layout",
        inputs={
            f"{number}/{name}": sha256_file(path)
            for number, version in sorted(model.versions.items())
            for name, path in sorted(version.files.items())
        },
        options={"server": server, "format": model.format} | {path: _shown(file) for path, file in _written(files)},
        outputs={path: sha256_file(file) for path, file in files.items() if not isinstance(file, bytes)},
    )


def _written(files: Files) -> list[tuple[str, bytes]]:
    return [(path, file) for path, file in sorted(files.items()) if isinstance(file, bytes)]


def _shown(content: bytes) -> str:
    """Return the text of a file, or the hash of one that is no text."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return hashlib.sha256(content).hexdigest()
