"""Real files to calibrate and to verify on, picked the same way each time, no file used for both."""

import hashlib
import os
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from gpuserve_images.errors import SourceError
from gpuserve_images.records import sha256_file
from gpuserve_images.samples.spec import SampleSpec
from gpuserve_images.sources.packages import package_folder
from gpuserve_images.spec import ModelSpec

MAX_SAMPLE_BYTES = 8 * 2**20
"""Larger files are no samples: reading them would be most of a build."""

CALIBRATION_SHARE = 64
"""Of 256: the part of files named for both uses that calibrates. A quarter is enough for ranges; the rest judges."""


@dataclass(frozen=True)
class SampleSet:
    """The files of one build.

    Attributes:
        verify: Files that parity is measured on; none where inputs are generated.
        calibrate: Files that value ranges are measured on; none of them is in `verify`, by content.
    """

    verify: tuple[Path, ...]
    calibrate: tuple[Path, ...] = ()

    def hashes(self) -> dict[str, list[str]]:
        """Return the sorted content hashes of both sets."""
        return {
            "verify": sorted(sha256_file(file) for file in self.verify),
            "calibrate": sorted(sha256_file(file) for file in self.calibrate),
        }


def sample_set(model: ModelSpec, build: str, folder: Path) -> SampleSet:
    """Return the samples of one build.

    A file that both uses name goes to one of them by its content hash, so that `calibrate` and `verify` may name the same folder.

    Args:
        model: The model.
        build: Name of the build.
        folder: Folder of the model's YAML file.

    Raises:
        SourceError: When a set is empty.
    """
    spec = model.builds[build].calibrate
    verify = _by_content(pick(model.verify.inputs or (), folder, "verify.inputs"))
    if spec is None:
        return SampleSet(tuple(verify.values()))
    field = f"builds.{build}.calibrate.inputs"
    calibrate = _by_content(pick(spec.inputs, folder, field))
    shared = verify.keys() & calibrate.keys()
    calibrating = _calibrating(shared)
    chosen = SampleSet(
        verify=tuple(file for digest, file in verify.items() if digest not in calibrating),
        calibrate=tuple(file for digest, file in calibrate.items() if digest not in shared - calibrating),
    )
    if (model.verify.inputs and not chosen.verify) or not chosen.calibrate:
        reason = f"leaves no file for {'calibration' if chosen.verify else 'verification'} once none is used for both"
        raise SourceError(field, reason, "Name more samples, or different ones than `verify.inputs`.", value=str(len(shared)))
    return chosen


def _calibrating(shared: Collection[str]) -> set[str]:
    """Return which of the files that both uses name calibrate, by digest; of two and more at least one does, and one does not."""
    ordered = sorted(shared, key=lambda digest: (digest[-2:], digest))
    chosen = sum(int(digest[-2:], 16) < CALIBRATION_SHARE for digest in ordered)
    if len(ordered) > 1:
        chosen = min(max(chosen, 1), len(ordered) - 1)
    return set(ordered[:chosen])


def pick(samples: Iterable[SampleSpec], folder: Path, field: str) -> list[Path]:
    """Return the files that the specs name, in the order of the specs and then of their path's hash.

    Raises:
        SourceError: When a folder or package does not exist, or a spec names no file.
    """
    picked: list[Path] = []
    for index, spec in enumerate(samples):
        where = f"{field}[{index}]"
        if spec.package is not None:
            root = package_folder(spec.package, f"{where}.package")
            files = _package_files(root, spec.glob, spec.limit)
        else:
            root = (folder / str(spec.folder)).resolve()
            if not root.is_dir():
                reason = f"is not a folder (looked for {root})"
                raise SourceError(f"{where}.folder", reason, "Name an existing folder.", value=spec.folder)
            files = _files(root, spec.glob, spec.limit)
        if not files:
            reason = f"matches no file below {root} (empty files and those over {MAX_SAMPLE_BYTES >> 20} MiB do not count)"
            raise SourceError(f"{where}.glob", reason, "Correct the pattern.", value=spec.glob)
        picked += files
    return picked


@lru_cache(maxsize=256)
def _package_files(root: Path, glob: str, limit: int | None) -> tuple[Path, ...]:
    """Remember what a pattern matches in an installed package, which does not change under a running program."""
    if "[" in glob:
        return _files(root, glob, limit)
    wanted, end = _expression(glob), _end(glob)
    return _first(root, (name for name in _listing(root) if name.endswith(end) and wanted.fullmatch(name)), limit)


@lru_cache(maxsize=64)
def _listing(root: Path) -> tuple[str, ...]:
    """Return the relative paths of all files below a folder, walked once for all patterns: a package has thousands of folders."""
    names: list[str] = []
    start, folders = f"{root}{os.sep}", [""]
    while folders:
        below = folders.pop()
        with suppress(OSError), os.scandir(start + below) as entries:  # `os.walk` takes half as long again, pathlib far longer
            for entry in entries:
                if not entry.is_dir():
                    names.append(below + entry.name)
                elif entry.name != "__pycache__" and not entry.is_symlink():
                    folders.append(f"{below}{entry.name}/")
    return tuple(names)


def _end(glob: str) -> str:
    """Return the text that every path which a pattern matches ends with: telling it is much quicker than the expression."""
    return re.split(r"[*?/]", glob)[-1]


def _expression(glob: str) -> re.Pattern[str]:
    """Return a pattern of `pathlib.Path.glob`, without character sets, as a regular expression over relative paths of files."""
    wild = {"*": "[^/]*", "?": "[^/]"}
    parts = [
        "(?:[^/]+/)*" if part == "**" else "".join(wild.get(letter) or re.escape(letter) for letter in part) + "/"
        for part in glob.split("/")
    ]
    return re.compile("".join(parts).removesuffix("/"))


def _files(root: Path, glob: str, limit: int | None) -> tuple[Path, ...]:
    paths = (path for path in root.glob(glob) if "__pycache__" not in path.parts)
    return _first(root, (path.relative_to(root).as_posix() for path in paths), limit)


def _first(root: Path, names: Iterable[str], limit: int | None) -> tuple[Path, ...]:
    """Return the first files of a size worth reading, in the order of their paths' hashes."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return tuple(islice((path for name in ordered if _is_sample(path := root / name)), limit))


def _is_sample(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and 0 < path.stat().st_size <= MAX_SAMPLE_BYTES


def _by_content(files: Iterable[Path]) -> dict[str, Path]:
    """Key files by content hash: copies of one file count once."""
    unique: dict[str, Path] = {}
    for file in files:
        unique.setdefault(sha256_file(file), file)
    return unique
