"""Messages between gpuserve and the export process: JSON and named arrays, without pickle."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

LENGTHS = struct.Struct("!QQ")
"""Bytes of the JSON part, then of the arrays."""


def send(stream: BinaryIO, message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
    """Write one message; arrays of text travel as NumPy's fixed-width text, so that nothing is unpickled."""
    head = json.dumps(message).encode()
    body = io.BytesIO()
    # As `np.savez` does, which before NumPy 2.1 would pickle without asking, and takes no array called `file`.
    with zipfile.ZipFile(body, "w") as archive:
        for name, array in (arrays or {}).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(_plain(array)), allow_pickle=False)
    stream.write(LENGTHS.pack(len(head), body.tell()))
    stream.write(head)
    stream.write(body.getbuffer())
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Read one message, or None when the other side has gone."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head_length, body_length = LENGTHS.unpack(lengths)
    head, body = stream.read(head_length), stream.read(body_length)
    if len(body) < body_length:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return json.loads(head), {name: _text_as_objects(archive[name]) for name in archive.files}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.str_) if array.dtype == object else array


def _text_as_objects(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(object) if array.dtype.kind == "U" else array
