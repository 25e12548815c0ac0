"""Answers that a server packed for the way (`Content-Encoding`), though the file was asked for as it is."""

import zlib
from collections.abc import Iterator

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.remote import CHUNK_BYTES, HiccupError

_PLAIN = frozenset({"", "identity"})
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_FILES = (".gz", ".tgz")
# 16 more than the window's bits makes zlib expect a header of gzip.
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def is_packed(where: str, encoding: str, names: tuple[str, ...]) -> bool:
    """Tell whether bytes must be unpacked to be the file.

    Many servers give a file that ends in `.gz` with its own packing as the encoding; that one is the file as it lies there.

    Args:
        where: The address for messages.
        encoding: `Content-Encoding` of the answer.
        names: Paths that the file has: where it was asked for, and where that led to.

    Raises:
        SourceError: When they are packed in another way than with gzip, which all servers that pack know.
    """
    said = encoding.strip().lower()
    if said in _PLAIN or (said in _GZIP and any(name.lower().endswith(_GZIP_FILES) for name in names)):
        return False
    if said in _GZIP:
        return True
    reason = "is sent packed by its server, though it was asked for as it is"
    fix = "Tell the server to send it without Content-Encoding, or use another address of the file."
    raise SourceError(where, reason, fix, value=f"Content-Encoding: {encoding}")


def unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what is in a gzip stream, of one part or several, a few bytes at a time however small it was packed.

    Raises:
        HiccupError: When it is cut, or is none.
    """
    stream = zlib.decompressobj(_GZIP_WINDOW)
    begun = False
    for chunk in chunks:
        rest = chunk
        while rest:
            if stream.eof:
                stream = zlib.decompressobj(_GZIP_WINDOW)
            begun = True
            try:
                yield stream.decompress(rest, CHUNK_BYTES)
            except zlib.error as error:
                raise HiccupError("it says that its answer is packed with gzip, and it is not") from error
            rest = stream.unconsumed_tail or stream.unused_data
    while begun and not stream.eof and (last := stream.decompress(b"", CHUNK_BYTES)):
        yield last
    if begun and not stream.eof:
        raise HiccupError("the connection was cut")
