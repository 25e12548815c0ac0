"""What every kind of address is read through, and the failures that may pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 2**20
"""Bytes that are held at a time."""

LAYERS = ".layers"
"""Folder of a download that holds the tar layers of an image, by number."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address.

    Attributes:
        path: Its path below the address; its name where the address is the file.
        where: What its client calls it: a URL, a key, a digest.
        size: Bytes, or None while unknown.
        digest: What its content must be: SHA-256 (64 hex digits) or git's object id (40), or None.
    """

    path: str
    where: str
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Reading:
    """A file's bytes as they arrive.

    Attributes:
        start: The byte that they start at: 0 when the server knows no ranges.
        size: Bytes of the whole file, or None when the server does not say.
        chunks: The bytes.
    """

    start: int
    size: int | None
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Listing:
    """What is at an address.

    Attributes:
        files: The files.
        folder: Whether the address is a folder of files, not one file.
    """

    files: tuple[RemoteFile, ...]
    folder: bool


class Remote(Protocol):
    """A client of one kind of address. It raises SourceError (or RegistryError) for what stays, HiccupError for what may pass."""

    def listing(self) -> Listing:
        """Return what is at the address."""
        ...

    def read(self, file: RemoteFile, start: int) -> AbstractContextManager[Reading]:
        """Open a file from a byte on; its chunks may raise, too."""
        ...


class HiccupError(Exception):
    """A failure that may pass: a cut connection, an overloaded server.

    Attributes:
        reason: What happened, without anything secret.
        wait: Seconds that the server asks for, or None.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        """Keep both."""
        self.reason = reason
        self.wait = wait
        super().__init__(reason)
