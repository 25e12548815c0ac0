"""A layout as a stage keeps it: its own files, and pointers to those that other stages keep."""

import json
from collections.abc import Mapping
from pathlib import Path

from gpuserve_images.errors import ImageError

LIST = "layout.json"
OWN = "own"


def save(files: Mapping[str, Path | bytes], out: Path, folders: Mapping[str, Path]) -> None:
    """Write down which file goes where in an image; weights are named and not copied.

    Args:
        files: Path in the image -> content, or a file below `out` or one of `folders`.
        out: The stage's folder.
        folders: Folders of other stages, by role.
    """
    places: dict[str, dict[str, str]] = {}
    for number, (path, content) in enumerate(sorted(files.items())):
        if isinstance(content, bytes):
            name = f"{OWN}/{number}-{Path(path).name}"
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes(content)
            places[path] = {"from": OWN, "file": name}
        else:
            places[path] = _pointer(content, {OWN: out, **folders})
    (out / LIST).write_text(json.dumps(places, indent=2, sort_keys=True), encoding="utf-8")


def load(out: Path, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of an image by their path in it."""
    places: dict[str, dict[str, str]] = json.loads((out / LIST).read_text(encoding="utf-8"))
    known = {OWN: out, **folders}
    return {path: known[place["from"]] / place["file"] for path, place in places.items()}


def roles(out: Path) -> set[str]:
    """Return the roles of the stages that a layout takes files from."""
    places: dict[str, dict[str, str]] = json.loads((out / LIST).read_text(encoding="utf-8"))
    return {place["from"] for place in places.values()} - {OWN}


def _pointer(file: Path, folders: Mapping[str, Path]) -> dict[str, str]:
    for role, folder in folders.items():
        if file.is_relative_to(folder):
            return {"from": role, "file": file.relative_to(folder).as_posix()}
    raise ImageError("layout", "takes a file that no stage made", "Report this model.", value=str(file))
