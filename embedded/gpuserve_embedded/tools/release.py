"""Programs from their publisher's release, checked against the sums that the publisher lists."""

from __future__ import annotations

import hashlib
import http.client
import platform
import socket
import tarfile
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from gpuserve_embedded.tools.cache import kept, put
from gpuserve_embedded.tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuserve_embedded.tools.catalogue import Release

# Behind a closed network a packet may vanish without an answer: that must not cost a user a minute at each start.
_CONNECT_SECONDS = 3.0
_READ_SECONDS = 60.0
_CHUNK_BYTES = 1 << 20
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}

_unreachable: set[str] = set()
"""Hosts that did not answer during this run: each is tried once."""


class _KnownUnreachableError(ConnectionError):
    """A host did not answer earlier in this run, and the user has been told."""


def download(release: Release, progress: Callable[[str], None]) -> Path | None:
    """Return the folder of a release's programs, fetching and checking it first if it is not kept yet.

    Args:
        release: What to fetch.
        progress: Told what is going on.

    Returns:
        The folder, or None where the publisher cannot be reached or has nothing for this kind of machine.

    Raises:
        ToolError: What came is not what the publisher lists.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return None
    archive = release.archive.format(system=f"{platform.system().lower()}-{machine}")
    name = archive.rsplit("/", 1)[1].removesuffix(".tar.gz")
    folder = f"release-{name}"
    try:
        found = kept(folder)
        if found is None:
            _knock(archive)
            # Before `put`, which may wait minutes for another process that builds.
            wanted = _listed_sum(_read(release.sums).decode(), archive.rsplit("/", 1)[1])
            found = put(folder, lambda empty: _fetch(archive, wanted, empty, progress), progress)
    except _KnownUnreachableError:
        return None
    except (OSError, http.client.HTTPException) as error:
        progress(f"{name} cannot be downloaded here ({error})")
        return None
    return found / release.folder


def _fetch(archive: str, wanted: str, folder: Path, progress: Callable[[str], None]) -> None:
    name = archive.rsplit("/", 1)[1]
    progress(f"downloading {name}")
    packed = folder / name
    total = hashlib.sha256()
    with urllib.request.urlopen(archive, timeout=_READ_SECONDS) as response, packed.open("wb") as file:  # noqa: S310 - https only, from the catalogue
        while chunk := response.read(_CHUNK_BYTES):
            total.update(chunk)
            file.write(chunk)
    if total.hexdigest() != wanted:
        raise ToolError(
            name,
            f"its SHA-256 is {total.hexdigest()}, and its publisher lists {wanted}",
            "something between here and the publisher changes downloads; install the official release yourself",
        )
    with tarfile.open(packed) as content:
        # Debian 12's Python 3.11.2 has no filters yet.
        content.extraction_filter = getattr(tarfile, "data_filter", None)
        content.extractall(folder)  # noqa: S202 - it has the sum that its publisher lists
    packed.unlink()


def _knock(address: str) -> None:
    """Raise OSError within seconds if nobody answers at an address."""
    host = urllib.parse.urlsplit(address).hostname or ""
    if host in _unreachable:
        raise _KnownUnreachableError(host)
    if urllib.request.getproxies().get("https"):
        return  # the proxy answers for the host
    try:
        socket.create_connection((host, 443), timeout=_CONNECT_SECONDS).close()
    except OSError:
        _unreachable.add(host)
        raise


def _read(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_CONNECT_SECONDS) as response:  # noqa: S310 - https only, from the catalogue
            return bytes(response.read())
    except OSError:
        _unreachable.add(urllib.parse.urlsplit(address).hostname or "")
        raise


def _listed_sum(listing: str, name: str) -> str:
    for line in listing.splitlines():
        words = line.split()
        if words[1:] == [name]:
            return words[0]
    raise ToolError(
        name, "its publisher's list of sums does not name it", "install the official release yourself, and put it on PATH"
    )
