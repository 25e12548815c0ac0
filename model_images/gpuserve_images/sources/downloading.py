"""From an address to verified files in the cache."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from gpuserve_images.errors import SourceError
from gpuserve_images.records import Progress, sha256_file, sha256_json
from gpuserve_images.sources.addresses import Address, is_name
from gpuserve_images.sources.cache import SourceCache, readable
from gpuserve_images.sources.digests import folder_digest, left_out, tree_digest, tree_files
from gpuserve_images.sources.formats import is_archive
from gpuserve_images.sources.pickles import refuse_contents, refuse_names
from gpuserve_images.sources.remote import LAYERS, Listing, Remote, RemoteFile
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.sources.transfer import Meter, patiently, transfer
from gpuserve_images.sources.unpacking import included, nothing_included, overlaid
from gpuserve_images.sources.volume import volume_place

_FILE = "file"
_FOLDER = "folder"


def download(source: SourceSpec, address: Address, store: SourceCache, progress: Progress) -> Path:
    """Return the file or folder of an address, downloaded unless the cache has it.

    Args:
        source: The declared source.
        address: Its address.
        store: The cache.
        progress: Told bytes done and bytes in all.

    Raises:
        SourceError: When it is refused, not what its digest says, pickled without leave, or does not fit the disk.
        RegistryError: When a registry refused.
    """
    if address.scheme == "pvc":
        place = volume_place(address, str(source.sha256))
    else:
        files = store.obtain(_key(source, address), lambda folder: _bring(source, address, folder, progress))
        place = _place(files, address, store)
        _require_declared(source, address, place)
        if (place / LAYERS).is_dir():
            place = overlaid(place, _key(source, address), store, address.shown, include=source.include)
    if not source.allow_pickle and not (place.is_file() and is_archive(place.name)):
        files = _all(place)
        # Once more by name: a volume has no download, and the cache may have the file from where it was allowed.
        refuse_names(address.shown, files)
        refuse_contents(address.shown, files.items())
    return place


def has(source: SourceSpec, address: Address, store: SourceCache) -> bool:
    """Tell whether the cache has what an address pins."""
    return store.has(_key(source, address))


def _key(source: SourceSpec, address: Address) -> str:
    """Return what names the content: the pinned digest, or a hash of the pinned revision and of what is taken from it."""
    if address.scheme == "oci":
        content = str(address.revision)
    elif address.scheme == "hf":
        content = sha256_json([address.place, address.revision, address.path])
    else:
        content = str(source.sha256)
    several = address.scheme not in {"https", "http"}
    return sha256_json([content, sorted(source.include)]) if source.include and several else content


def _require_declared(source: SourceSpec, address: Address, place: Path) -> None:
    """Refuse files that are not of the declared digest; of commits and artifacts it is no part of the key, so a hit says nothing.

    Raises:
        SourceError: When they are not.
    """
    if source.sha256 is None or not address.names_content:
        return
    found = folder_digest(place) if place.is_dir() else sha256_file(place)
    if found != source.sha256:
        reason = f"has the digest {found}, and {source.sha256} was expected"
        raise SourceError(address.shown, reason, "See what is at the address; when that is wanted, correct `sha256:`.")


def _bring(source: SourceSpec, address: Address, folder: Path, progress: Progress) -> None:
    remote = client(address)
    where = address.shown
    listing = patiently(where, remote.listing)
    files = _chosen(listing, source, where)
    if not source.allow_pickle:
        refuse_names(where, (file.path for file in files))
    below = folder / (_FOLDER if listing.folder else _FILE)
    _remove_others(folder, {below / file.path for file in files})
    meter = Meter(progress, sum(file.size or 0 for file in files))
    pinned = source.sha256
    # What an earlier attempt left of files without a digest of their own, which may be of before a change at the address.
    kept = [file for file in files if file.digest is None and _begun(below / file.path)]
    digests: dict[str, str] = {}
    for file in files:
        wanted = file if listing.folder or pinned is None else RemoteFile(file.path, file.where, file.size, pinned)
        digests[file.path] = transfer(remote, wanted, below / file.path, where, meter)
    if listing.folder and pinned is not None and tree_digest(digests) != pinned:
        for file in kept:
            meter.add(-(below / file.path).stat().st_size)
            (below / file.path).unlink()
            digests[file.path] = transfer(remote, file, below / file.path, where, meter)
    if listing.folder and pinned is not None and tree_digest(digests) != pinned:
        for file in files:
            (below / file.path).unlink()
        reason = f"its files have the tree digest {tree_digest(digests)}, and {pinned} was expected; they were removed"
        raise SourceError(where, reason, "See what is at the address; when the new content is wanted, correct `sha256:`.")


def client(address: Address) -> Remote:
    """Return the client of an address.

    Raises:
        SourceError: When the package that it needs is not installed.
    """
    # Each client's libraries are loaded when an address of its kind is read.
    if address.scheme in {"https", "http"}:
        from gpuserve_images.sources.web import WebFile

        return WebFile(address)
    if address.scheme in {"s3", "gs"}:
        from gpuserve_images.sources.buckets import Bucket

        return Bucket(address)
    if address.scheme == "hf":
        from gpuserve_images.sources.hugging_face import HuggingFace

        return HuggingFace(address)
    from gpuserve_images.sources.registries import Artifact

    return Artifact(address)


def _chosen(listing: Listing, source: SourceSpec, where: str) -> list[RemoteFile]:
    # What one file's name is does not matter: of an archive, and of an image's layer, `include` is about what is in it.
    globs = source.include if listing.folder else ()
    held = [file for file in listing.files if not left_out(file.path)]
    files = [file for file in held if file.path.startswith(f"{LAYERS}/") or included(file.path, globs)]
    if not files:
        raise nothing_included(where, globs, [file.path for file in held])
    for file in files:
        require_inside(file.path, where)
    names: set[str] = set()
    for file in files:
        if file.path in names:
            raise SourceError(where, "has two files of one name", "Give one of them another name there.", value=file.path)
        names.add(file.path)
    for name in names:
        above = next((str(parent) for parent in PurePosixPath(name).parents if str(parent) in names), None)
        if above is not None:
            raise SourceError(where, f"has a file {above!r} and a folder of the same name", "Choose one with `include:`.")
    return sorted(files, key=lambda file: file.path)


def require_inside(name: str, where: str) -> None:
    """Refuse a name from far away that would be written elsewhere than below the download's folder.

    Raises:
        SourceError: When it is absolute, goes up, has characters that paths do not have, or a part that is too long for a name.
    """
    parts = name.split("/")
    if name.startswith("/") or any(part in {"", ".", ".."} for part in parts) or re.search(r"[\\\x00-\x1f]", name):
        raise SourceError(where, "names a file outside of its own folder", "Do not trust this address.", value=repr(name))
    wrong = next((part for part in parts if not is_name(part)), None)
    if wrong is not None:
        reason = "has a file whose name no file here can have: it is longer than 255 bytes, or no text"
        raise SourceError(where, reason, "Give it another name there.", value=repr(wrong))


def _place(files: Path, address: Address, store: SourceCache) -> Path:
    if (files / _FOLDER).is_dir():
        return files / _FOLDER
    if not is_name(address.name):
        raise SourceError(address.shown, "ends in what is no name of a file", "Correct the address.", value=repr(address.name))
    found = files / _FILE / address.name
    if not found.exists():
        # The same content at an address with another name.
        other = next(path for path in sorted((files / _FILE).iterdir()) if path.is_file())
        with readable(store.root):
            found.hardlink_to(other)
    return found


def _all(place: Path) -> Mapping[str, Path]:
    return tree_files(place) if place.is_dir() else {place.name: place}


def _begun(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _remove_others(folder: Path, wanted: set[Path]) -> None:
    """Remove what an earlier attempt left and this one does not ask for."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
