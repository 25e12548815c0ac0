"""What this machine remembers between bakes: digests of layers whose files did not change, where base layers went, and begun uploads.

It only saves work: every digest is checked by the registry, every place is asked before it is used, and without the file (or on a
full disk) everything is found out again. Nothing secret is in it: the address of an upload is of use to those only who may push there.
"""

import fcntl
import hashlib
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from gpuserve_images import folders

_TABLES = (
    "CREATE TABLE IF NOT EXISTS layers (key TEXT PRIMARY KEY, digest TEXT, size INTEGER, diff_id TEXT)",
    "CREATE TABLE IF NOT EXISTS places (registry TEXT, digest TEXT, repository TEXT, PRIMARY KEY (registry, digest, repository))",
    "CREATE TABLE IF NOT EXISTS uploads (registry TEXT, repository TEXT, digest TEXT, url TEXT, PRIMARY KEY (registry, repository, digest))",
)
# Another process holds the file for milliseconds only.
_SECONDS = 5.0
_LOCK_DIGITS = 2
# A mount is tried from so many repositories before the blob is sent.
_PLACES = 3


def recall_layer(key: str) -> tuple[str, int, str] | None:
    """Return digest, size and diff id of a layer, or None when it is not known."""
    rows = _ask("SELECT digest, size, diff_id FROM layers WHERE key = ?", key)
    return rows[0] if rows else None


def remember_layer(key: str, digest: str, size: int, diff_id: str) -> None:
    """Remember a layer."""
    _ask("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?)", key, digest, size, diff_id)


def forget_layer(digest: str) -> None:
    """Forget all layers of a digest: a registry said that the content has another one."""
    _ask("DELETE FROM layers WHERE digest = ?", digest)


def repositories(registry: str, digest: str) -> list[str]:
    """Return repositories of a registry that a blob was put into, latest first."""
    rows = _ask(
        "SELECT repository FROM places WHERE registry = ? AND digest = ? ORDER BY rowid DESC LIMIT ?", registry, digest, _PLACES
    )
    return [row[0] for row in rows]


def remember_repository(registry: str, digest: str, repository: str) -> None:
    """Remember that a repository has a blob now."""
    _ask("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", registry, digest, repository)


def recall_upload(registry: str, repository: str, digest: str) -> str | None:
    """Return the address of an upload that did not come to its end, or None."""
    rows = _ask("SELECT url FROM uploads WHERE registry = ? AND repository = ? AND digest = ?", registry, repository, digest)
    return rows[0][0] if rows else None


def remember_upload(registry: str, repository: str, digest: str, url: str) -> None:
    """Remember where an upload goes on."""
    _ask("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", registry, repository, digest, url)


def forget_upload(registry: str, repository: str, digest: str) -> None:
    """Forget an upload that ended, or that the registry will not go on with."""
    _ask("DELETE FROM uploads WHERE registry = ? AND repository = ? AND digest = ?", registry, repository, digest)


@contextmanager
def unshared(name: str) -> Generator[bool]:
    """Tell whether nobody else on this machine does the same thing, and keep it so; never waits."""
    with _lock_file("sending", name) as stream:
        alone = False
        with suppress(OSError):
            if stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
        yield alone


@contextmanager
def only_one(name: str) -> Generator[None]:
    """Keep others on this machine from doing the same thing meanwhile; the kernel frees the lock of a killed process."""
    with _lock_file("locks", name) as stream:
        if stream:  # else the work is done twice at worst
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _lock_file(kind: str, name: str) -> Generator[TextIO | None]:
    """Open the file that stands for a name, or give None where there is no place for locks."""
    # Two names that meet in one of these files are in each other's way now and then, and the files stay few.
    path = _folder() / kind / hashlib.sha256(name.encode()).hexdigest()[:_LOCK_DIGITS]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError:
        yield None
        return
    with stream:
        yield stream


def _folder() -> Path:
    return folders.cache("oci")


def _ask(statement: str, *values: str | int) -> list[tuple[str, int, str]]:
    with suppress(OSError, sqlite3.Error):
        path = _folder() / "memory.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_SECONDS)
        try:
            with connection:
                for table in _TABLES:
                    connection.execute(table)
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()
    return []
