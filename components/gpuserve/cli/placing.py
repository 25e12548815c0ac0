"""What the arguments `PATH:PLACE` of `gpuserve bake` put where in an image."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gpuserve.kubernetes.errors import SpecError

_EXECUTABLE, _READABLE = 0o755, 0o644
_OWNER_RUNS = 0o100


def placed(arguments: Sequence[str]) -> dict[str, Path]:
    """Return the files that the arguments mean, by their place in the image, in order of the places.

    Of a folder it is all files but Git's and a hub's own; a link to a file counts as that file, as in a model's source.

    Args:
        arguments: Each a path, a colon and an absolute place; of a file, a place with a slash at its end is its folder.

    Raises:
        SpecError: An argument names nothing or says no place, or two of them do not go together.
        SourceError: A folder holds no files, a link to a folder or to nothing, or what is no plain file.
    """
    places: dict[str, Path] = {}
    named: dict[str, str] = {}
    for argument in arguments:
        for place, path in _placed(argument).items():
            if place in places:
                reason = f"puts a second file at {place}, where {named[place]!r} puts one"
                raise _problem(argument, reason, "name one of them, or another place")
            places[place], named[place] = path, argument
    for place in sorted(places):
        over = next((str(parent) for parent in PurePosixPath(place).parents if str(parent) in places), None)
        if over is not None:
            reason = f"puts a file at {place}, below {over}, where {named[over]!r} puts a file"
            raise _problem(named[place], reason, "name another place for one of them")
    return dict(sorted(places.items()))


def mode(path: Path) -> int:
    """Return the permission bits of a file in the image: readable for all, and a program where its owner may run it."""
    return _EXECUTABLE if path.stat().st_mode & _OWNER_RUNS else _READABLE


def _placed(argument: str) -> dict[str, Path]:
    from gpuserve_images.sources.digests import tree_files

    # A name may have colons of its own; a place begins with a slash.
    name, found, place = argument.partition(":/")
    if not found:
        named = argument if Path(argument).exists() else argument.partition(":")[0]
        raise _problem(argument, "does not say where in the image it goes", f"write {named}:/models/{Path(named).name}")
    path, place = Path(name), f"/{place}"
    if path.is_dir():
        files = {f"{place.rstrip('/')}/{inside}": file for inside, file in tree_files(path).items()}
    elif path.is_file():
        files = {place + (path.name if place.endswith("/") else ""): path}
    else:
        there = path.is_symlink() or path.exists()
        raise _problem(
            argument, "is no plain file, or a link to none" if there else "does not exist", "name a file or a folder"
        )
    for found in files:
        if not _is_text(found):
            raise _problem(argument, f"has a name that is not UTF-8: {found!r}", "rename the file")
    return files


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(argument: str, reason: str, fix: str) -> SpecError:
    return SpecError.of("PATH:PLACE", argument, reason, fix)
