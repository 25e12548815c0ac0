"""Tell a truncated ONNX file from one that never was ONNX, by protobuf's wire format alone.

protobuf's parsers only say "error parsing message". The outermost level of an ONNX file is a short list of fields (ModelProto in
onnx/onnx.proto), so walking it by hand takes a few reads even for gigabytes and tells which field is cut off and where.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

VARINT, LENGTH_DELIMITED = 0, 2
MODEL_FIELDS = {
    1: ("ir_version", VARINT),
    2: ("producer_name", LENGTH_DELIMITED),
    3: ("producer_version", LENGTH_DELIMITED),
    4: ("domain", LENGTH_DELIMITED),
    5: ("model_version", VARINT),
    6: ("doc_string", LENGTH_DELIMITED),
    7: ("graph", LENGTH_DELIMITED),
    8: ("opset_import", LENGTH_DELIMITED),
    14: ("metadata_props", LENGTH_DELIMITED),
    20: ("training_info", LENGTH_DELIMITED),
    25: ("functions", LENGTH_DELIMITED),
    26: ("configuration", LENGTH_DELIMITED),
}
GRAPH = 7
MAX_VARINT_BYTES = 10


@dataclass(frozen=True)
class Broken:
    """Why a file is no whole ONNX model, and what to do."""

    reason: str
    fix: str


def truncation(path: Path) -> Broken | None:
    """Return what is wrong with the outermost level of an ONNX file, or None when it is whole."""
    size = path.stat().st_size
    if size == 0:
        return Broken("is empty (0 bytes)", "Export or copy the model again.")
    seen: set[int] = set()
    with path.open("rb") as stream:
        while stream.tell() < size:
            start = stream.tell()
            tag = _varint(stream)
            number, wire_type = (0, 0) if tag is None else (tag >> 3, tag & 7)
            name, expected = MODEL_FIELDS.get(number, ("", -1))
            if wire_type != expected:
                return _not_onnx(start) if not seen else _truncated(size, f"field at byte {start} is damaged")
            value = _varint(stream)
            if value is None:
                return _truncated(size, f"field {name!r} is cut off at byte {start}")
            if wire_type == LENGTH_DELIMITED:
                end = stream.tell() + value
                if end > size:
                    if not seen and number != GRAPH:
                        return _not_onnx(start)
                    return _truncated(size, f"field {name!r} ends at byte {end}, the file at byte {size}")
                stream.seek(end)
            seen.add(number)
    return None if GRAPH in seen else _truncated(size, "it holds no graph")


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for position in range(MAX_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * position)
        if byte[0] < 0x80:  # noqa: PLR2004 - the high bit says that another byte follows
            return value
    return None


def _truncated(size: int, detail: str) -> Broken:
    return Broken(f"is a truncated ONNX file of {size} bytes: {detail}", "Export or copy the model again.")


def _not_onnx(start: int) -> Broken:
    return Broken(
        f"is not an ONNX file (byte {start} starts no field of an ONNX model)", "Name a file that was exported to ONNX."
    )
