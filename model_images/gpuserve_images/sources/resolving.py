"""Stage 1: from a declared source to checked local files, and what its content is before it is downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import declared_weights, weight_files
from gpuserve_images.records import Progress, StageRecord, sha256_file, sha256_json, silent
from gpuserve_images.sources.addresses import Address
from gpuserve_images.sources.cache import SourceCache, cache_folder
from gpuserve_images.sources.digests import folder_digest, tree_files
from gpuserve_images.sources.downloading import download, has
from gpuserve_images.sources.formats import FOLDERS, Found, by_name, find, is_archive, unknown_format
from gpuserve_images.sources.packages import package_folder
from gpuserve_images.sources.pickles import refuse_format, refuse_names
from gpuserve_images.sources.spec import Format, SourceSpec
from gpuserve_images.sources.unpacking import unpacked

FIELD = "source"


@dataclass(frozen=True)
class SourceFiles:
    """A model that lies on this machine.

    Attributes:
        root: The folder that all its files lie below.
        entry: The model file, or the folder of a format that is one (TensorFlow, Hugging Face).
        sha256: Digest of its content: of a file its SHA-256, of a folder the tree digest.
        format: What it is.
        external: The files that an ONNX model keeps weights in, when they are not inside.
    """

    root: Path
    entry: Path
    sha256: str
    format: Format
    external: tuple[Path, ...] = ()

    @property
    def path(self) -> Path:
        """The model file or folder."""
        return self.entry

    @property
    def files(self) -> Mapping[str, Path]:
        """All files of the model by their path below `root`."""
        if self.entry.is_dir():
            return tree_files(self.entry)
        return {file.relative_to(self.root).as_posix(): file for file in (self.entry, *self.external)}

    @property
    def record(self) -> StageRecord:
        """What this stage did."""
        outputs = {name: sha256_file(file) for name, file in self.files.items()}
        return StageRecord(stage="source", options={"format": self.format}, outputs=outputs)


def identity(source: SourceSpec, folder: Path) -> str:
    """Return a digest of a source's content and of what is taken from it, without a download.

    Local files are hashed and checked; an address is pinned by its spec, so its content is known.

    Args:
        source: The declared source.
        folder: Folder of the model's YAML file, which `file` is relative to.

    Raises:
        SourceError: When something local is missing or damaged, or nothing tells the format.
    """
    taken: dict[str, Any] = {"format": format_of(source, folder), "path": source.path, "include": list(source.include)}
    address = source.address
    if address is not None:
        pin = source.sha256 or [address.scheme, address.revision, address.path if address.scheme == "hf" else ""]
        return sha256_json({**taken, "content": pin, "name": address.name})
    files = _local(source, folder)
    if files is None:
        archive = locate(source, folder)
        _require_digest(source, sha256_file(archive), _field(source))
        return sha256_json({**taken, "content": sha256_file(archive), "name": archive.name})
    content = sorted((name, sha256_file(file)) for name, file in files.files.items())
    return sha256_json({"format": files.format, "content": content})


def format_of(source: SourceSpec, folder: Path) -> Format:
    """Return what a model is, as far as the plan may know: as declared, else by its name, else by the content of local files.

    Raises:
        SourceError: When nothing tells, something local is missing or damaged, or an address gives pickles without leave.
    """
    address = source.address
    if address is not None:
        found = _named_format(source, address)
        if found is None:
            raise unknown_format(f"{FIELD}.url", address.shown)
        _require_leave(source, address)
        return found
    if source.format is not None:
        return source.format
    files = _local(source, folder)
    if files is not None:
        return files.format
    found = by_name(source.path or "")
    if found is None:
        raise unknown_format(f"{FIELD}.file", str(source.file))
    return found


def fetch(source: SourceSpec, folder: Path, *, cache: Path | None = None, progress: Progress = silent) -> SourceFiles:
    """Return a model's files, downloaded and unpacked where that has not been done before.

    Args:
        source: The declared source.
        folder: Folder of the model's YAML file, which `file` is relative to.
        cache: Where downloads are kept. Default: `$XDG_CACHE_HOME/gpuserve/sources`.
        progress: Told bytes done and bytes in all.

    Raises:
        SourceError: When it is missing, refused, damaged, or not what its digest says; it names the place, never a secret.
        RegistryError: When a registry refused an `oci` address.
    """
    store = SourceCache(cache or cache_folder())
    address = source.address
    if address is None:
        files = _local(source, folder)
        if files is not None:
            return files
        place, field = locate(source, folder), _field(source)
        _require_digest(source, sha256_file(place), field)
        place = unpacked(place, sha256_file(place), store, field)
    else:
        field = f"{FIELD}.url"
        _require_leave(source, address)
        place = download(source, address, store, progress)
    if address is not None and place.is_file() and is_archive(place.name):
        digest = source.sha256 or sha256_file(place)
        place = unpacked(place, digest, store, field, pickles=source.allow_pickle, include=source.include)
    return _checked(source, _below(source, place, field), field)


def at_hand(source: SourceSpec, folder: Path, *, cache: Path | None = None) -> SourceFiles | None:
    """Return a model's files where that takes no download, else None.

    Args:
        source: The declared source.
        folder: Folder of the model's YAML file.
        cache: Where downloads are kept. Default: `$XDG_CACHE_HOME/gpuserve/sources`.

    Raises:
        SourceError: When something local is missing or damaged.
    """
    address = source.address
    if address is not None and (address.scheme == "pvc" or not has(source, address, SourceCache(cache or cache_folder()))):
        return None
    return fetch(source, folder, cache=cache)


def locate(source: SourceSpec, folder: Path) -> Path:
    """Return where a source of this machine is, without reading it.

    Args:
        source: The declared source.
        folder: Folder of the model's YAML file, which `file` is relative to.

    Raises:
        SourceError: When the package or the file is missing, or the file is empty.
    """
    field = _field(source)
    if source.package is not None and source.path is not None:
        path, value = package_folder(source.package, f"{FIELD}.package") / source.path, source.path
    else:
        path, value = _own_name(folder / str(source.file)), str(source.file)
    if not path.exists():
        raise SourceError(field, f"does not exist (looked for {path})", "Name an existing model.", value=value)
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(field, f"is empty: {path} has 0 bytes", "Export or copy the model again.", value=value)
    return path


def _own_name(path: Path) -> Path:
    """Return where a file or folder is; a file keeps its name where it is a link, as in Hugging Face's cache, to one of another name."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def resolve(source: SourceSpec, folder: Path) -> SourceFiles:
    """Find a model and check that it is whole; the same as `fetch` with its defaults.

    Raises:
        SourceError: Naming the file, the value, the reason and what to do.
    """
    return fetch(source, folder)


def _named_format(source: SourceSpec, address: Address) -> Format | None:
    """Return the format of an address's model, as declared or told by its name; None where nothing tells before the download."""
    if source.format is not None:
        return source.format
    folder = "huggingface" if address.scheme == "hf" and not source.path else None
    return by_name(source.path or address.path) or folder


def _require_leave(source: SourceSpec, address: Address) -> None:
    """Refuse what runs code when it is loaded, from an address without `allow_pickle`, as far as spec and name tell it.

    Raises:
        SourceError: When it is so.
    """
    if source.allow_pickle:
        return
    refuse_names(address.shown, [address.name if address.path else "", source.path or ""])
    form = _named_format(source, address)
    if form is not None:
        refuse_format(address.shown, form)


def _field(source: SourceSpec) -> str:
    return f"{FIELD}.path" if source.package is not None else f"{FIELD}.file"


def _local(source: SourceSpec, folder: Path) -> SourceFiles | None:
    """Return the checked files of a source of this machine; None for an archive, whose content is not known before it is unpacked."""
    place, field = locate(source, folder), _field(source)
    if place.is_file() and is_archive(place.name):
        return None
    whole = place
    if source.package is None:
        place = _below(source, place, field, links=True)
    files = _checked(source, place, field)
    if source.sha256 is not None:
        _require_digest(source, folder_digest(whole) if whole.is_dir() else sha256_file(whole), field)
    return files


def _below(source: SourceSpec, place: Path, field: str, *, links: bool = False) -> Path:
    """Return what `path` names inside a folder.

    Args:
        source: The declared source.
        place: The folder.
        field: The field that named it, for messages.
        links: Whether the folder is the user's own, where a link to a file counts as that file (as for `tree_files`).

    Raises:
        SourceError: When it does not exist or is elsewhere.
    """
    if source.path is None:
        return place
    if place.is_file():
        raise SourceError(f"{FIELD}.path", f"names something inside of {place.name}, which is a file", "Remove `path:`.")
    inside = place / source.path
    if not inside.exists():
        reason = f"does not exist in {place.name}"
        raise SourceError(f"{FIELD}.path", reason, f"Name one of its files: {_some(place)}.", value=source.path)
    held = inside.parent if links and inside.is_file() else inside
    if not held.resolve().is_relative_to(place.resolve()):
        raise SourceError(
            f"{FIELD}.path", f"leaves the folder that `{field}` names", "Name a path inside of it.", value=source.path
        )
    return inside


def _checked(source: SourceSpec, place: Path, field: str) -> SourceFiles:
    found = find(place, field, source.format)
    if found.format in FOLDERS:
        return SourceFiles(found.root, found.entry, folder_digest(found.entry), found.format)
    return _file(found, field)


def _file(found: Found, field: str) -> SourceFiles:
    if found.entry.stat().st_size == 0:
        raise SourceError(
            field, f"is empty: {found.entry} has 0 bytes", "Export or copy the model again.", value=found.entry.name
        )
    external: tuple[Path, ...] = ()
    if found.format == "onnx":
        try:
            weights = declared_weights(found.entry)
        except SourceError as error:
            raise SourceError(field, error.reason, error.fix, value=error.where) from error
        external = tuple(weight_files(weights, found.entry))
    return SourceFiles(found.entry.parent, found.entry, sha256_file(found.entry), found.format, external)


def _require_digest(source: SourceSpec, found: str, field: str) -> None:
    if source.sha256 is not None and found != source.sha256:
        reason = f"has the SHA-256 {found}, and {source.sha256} was declared"
        raise SourceError(
            field, reason, "Get the declared file again, or correct `sha256:`.", value=str(source.file or source.path)
        )


def _some(folder: Path) -> str:
    names = list(tree_files(folder))
    shown = 8
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
