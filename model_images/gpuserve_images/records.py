"""What a stage did: its inputs, options, outputs and tools, so that a build explains itself."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpuserve.kubernetes.spec import Spec

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the work done and the work to do (both 0 when unknown)."""

_SHA256_DIGITS = 64


def silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


class StageRecord(Spec):
    """One stage of one build.

    Attributes:
        stage: Name of the stage.
        inputs: SHA-256 of each file it read, by role.
        options: The options it ran with.
        outputs: SHA-256 of each file it wrote, by name.
        tools: Version of each tool whose version can change the output.
        notes: What it chose by itself, and why.
    """

    stage: str
    inputs: Mapping[str, str] = {}
    options: Mapping[str, Any] = {}
    outputs: Mapping[str, str] = {}
    tools: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()


def source_digests(records: Iterable[StageRecord]) -> Iterator[tuple[str, str]]:
    """Yield name and SHA-256 of what a build's first stage read or fetched."""
    for record in records:
        if record.stage == "source":
            for name, sha256 in sorted({**record.inputs, **record.outputs}.items()):
                if len(sha256) == _SHA256_DIGITS:
                    yield name, sha256


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content; remembered while its size and time of change stay the same."""
    status = path.stat()
    return _known.get((path, status.st_size, status.st_mtime_ns)) or _sha256(path, status.st_size, status.st_mtime_ns)


def know_sha256(path: Path, digest: str) -> None:
    """Remember the SHA-256 of a file that was just verified, so that gigabytes are not read again to say it."""
    status = path.stat()
    _known[path, status.st_size, status.st_mtime_ns] = digest


_known: dict[tuple[Path, int, int], str] = {}


@lru_cache(maxsize=65536)
def _sha256(path: Path, size: int, changed: int) -> str:
    del size, changed
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Return the SHA-256 of plain data in its canonical JSON form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tool_versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package; `absent` where it is not installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
