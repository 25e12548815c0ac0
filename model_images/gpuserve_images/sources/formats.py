"""What a model's files are, told by their names and their first bytes."""

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.digests import tree_files
from gpuserve_images.sources.git_lfs import refuse_pointers
from gpuserve_images.sources.hugging_face_folder import ADAPTERS, CONFIG, WEIGHTS, missing_parts, told
from gpuserve_images.sources.spec import Format

FORMATS: tuple[Format, ...] = get_args(Format)
FOLDERS: frozenset[Format] = frozenset({"tensorflow", "huggingface"})
"""Formats of which the model is a folder, not a file."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Endings of archives that are unpacked."""

SAVED_MODEL = "saved_model.pb"

_SUFFIXES: dict[str, Format] = {
    ".onnx": "onnx",
    ".ubj": "xgboost",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".joblib": "sklearn",
}
_HEAD_BYTES = 4096
_TELLING = (".safetensors", ".bin", ".gguf")
"""Endings of weights that, beside a config, tell a Hugging Face folder; where one is declared, others do as well."""


@dataclass(frozen=True)
class Found:
    """A model among files.

    Attributes:
        format: What it is.
        entry: Its file, or the folder of a format that is one.
        root: The folder that all its files lie below.
    """

    format: Format
    entry: Path
    root: Path


def is_archive(name: str) -> bool:
    """Tell whether a name is an archive's."""
    return name.lower().endswith(ARCHIVES)


def by_name(name: str) -> Format | None:
    """Return the format that a file's name alone tells, or None."""
    return _SUFFIXES.get(PurePosixPath(name.lower()).suffix)


def of_file(path: Path) -> Format | None:
    """Return the format that a file's name tells, which its content must then keep to; else the one of its first bytes, or None."""
    named = by_name(path.name)
    if named is not None:
        return named
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(b"tree\nversion="):
        return "lightgbm"
    # XGBoost's JSON, and the same as UBJSON, where a key is its length and then its letters.
    if head.startswith(b"{") and b"learner" in head:
        return "xgboost"
    return "torch" if head.startswith(b"PK\x03\x04") and _is_torch(path) else None


def find(place: Path, field: str, declared: Format | None = None) -> Found:
    """Find the one model in a file or folder.

    Args:
        place: A file or a folder.
        field: The field that named it, for messages.
        declared: The format that the spec says, which is believed where it is possible.

    Raises:
        SourceError: When there is no model, more than one, not of the declared format, or a pointer of Git LFS in its place.
    """
    if place.is_file():
        refuse_pointers(field, {place.name: place})
        form = declared or of_file(place)
        if form is None:
            raise _unknown(field, place)
        if form in FOLDERS:
            raise SourceError(field, f"is a file, and a {form} model is a folder", "Name the folder.", value=place.name)
        return Found(form, place, place.parent)
    files = tree_files(place)
    if declared is None or declared in FOLDERS:
        folder = _folder_model(field, place, files, WEIGHTS if declared else _TELLING, declared)
        if folder is not None:
            return folder
        if declared == "tensorflow":
            raise SourceError(
                field, f"holds no {declared} model: {SAVED_MODEL} is missing", "Name its folder.", value=str(place)
            )
        if declared is not None:
            raise _incomplete(field, place, files)
    models: dict[str, Format] = {name: form for name, path in files.items() if (form := _in_folder(path, declared)) is not None}
    if len(models) == 1:
        name, form = next(iter(models.items()))
        refuse_pointers(field, {name: files[name]})
        return Found(form, files[name], files[name].parent)
    if not models and declared is None and (_top_config(files) is not None or files.keys() & set(ADAPTERS)):
        raise _incomplete(field, place, files)
    what = f"{declared} models" if declared else "models"
    reason = f"holds {len(models)} {what}: {', '.join(sorted(models))}" if models else f"holds no {declared or 'known'} model"
    fix = (
        "Name one with `path:`."
        if models
        else f"Name its file with `path:`, and what it is with `format:` (one of {list(FORMATS)})."
    )
    raise SourceError(field, reason, fix, value=str(place))


def unknown_format(field: str, value: str) -> SourceError:
    """Return the error for a source whose format nothing tells before it is downloaded."""
    reason = "does not tell what the model is"
    return SourceError(field, reason, f"Add `format:`, one of {list(FORMATS)}.", value=value)


def _unknown(field: str, place: Path) -> SourceError:
    reason = "is not a model file that is known by its name or its first bytes"
    return SourceError(field, reason, f"Name a model file, or add `format:`, one of {list(FORMATS)}.", value=place.name)


def _in_folder(path: Path, declared: Format | None) -> Format | None:
    found = of_file(path)
    return found if declared is None or found == declared else None


def _folder_model(
    field: str, place: Path, files: Mapping[str, Path], weights: tuple[str, ...], declared: Format | None
) -> Found | None:
    """Return the SavedModel or Hugging Face model that is the folder, or the only folder with one inside it.

    Raises:
        SourceError: When several folders are models of one of these formats: none of them is the one that is meant. When one holds pointers
            of Git LFS.
    """
    names = set(files)
    saved = [name.removesuffix(SAVED_MODEL) for name in names if PurePosixPath(name).name == SAVED_MODEL]
    configs = [name.removesuffix(CONFIG) for name in names if PurePosixPath(name).name == CONFIG]
    # What lies inside of a model is a part of it, such as the pooling of an embedding.
    outermost = [one for one in configs if not any(one != other and one.startswith(other) for other in configs)]
    whole = [one for one in outermost if any(name.startswith(one) and name.endswith(weights) for name in names)]
    roots: dict[Format, list[str]] = {"tensorflow": saved, "huggingface": whole}
    for form, found in roots.items():
        if not found or declared not in {None, form}:
            continue
        if len(found) > 1:
            places = ", ".join(sorted(one.rstrip("/") or "." for one in found))
            reason = f"holds {len(found)} {form} models, in the folders {places}"
            raise SourceError(field, reason, "Name one with `path:`.", value=str(place))
        if form == "tensorflow":
            # Of a Hugging Face folder a server reads some files only: its layout knows which.
            refuse_pointers(field, {name.removeprefix(found[0]): files[name] for name in names if name.startswith(found[0])})
        root = place / found[0]
        return Found(form, root, root)
    return None


def _top_config(names: Iterable[str]) -> str | None:
    configs = [name for name in names if PurePosixPath(name).name == CONFIG]
    return min(configs, key=lambda name: (name.count("/"), name), default=None)


def _incomplete(field: str, place: Path, files: Mapping[str, Path]) -> SourceError:
    """Return the error for a Hugging Face folder without its config or its weights; what else it lacks is named with them."""
    prefix = (_top_config(files) or CONFIG).removesuffix(CONFIG)
    below = {name.removeprefix(prefix): path for name, path in files.items() if name.startswith(prefix)}
    where, reason, fix = told(missing_parts(below))
    lacks = reason if reason.startswith("lacks ") else f"{where} {reason}"
    return SourceError(field, f"holds no whole huggingface model: {lacks}", fix, value=str(place))


def _is_torch(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name).name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return False
    return bool({"archive_format", "serialized_exported_program.json", "data.pkl"} & set(names))
