"""Headers of safetensors files: which tensors are in there, and whether all their bytes are."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gpuserve_images.errors import shortened
from gpuserve_images.layouts.served import LayoutError

MOST_HEADER = 100_000_000
"""Bytes that a header may have; the limit of the format's own reader."""

BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}
"""Type -> bits of one element."""


@dataclass(frozen=True)
class Header:
    """What a file says that it holds.

    Attributes:
        tensors: Bytes of each tensor, by name.
    """

    tensors: Mapping[str, int]

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self.tensors.values())


def read_header(path: Path, name: str) -> Header:
    """Read and check the header of a safetensors file; the weights are not read.

    Args:
        path: The file.
        name: How errors call it.

    Raises:
        LayoutError: When it is no safetensors file, is cut off, or its tensors do not fill it exactly.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 0 < length <= min(size - 8, MOST_HEADER):  # noqa: PLR2004 - the eight bytes of the length
            reason = f"is no whole safetensors file: its header should have {length} bytes, the file has {size}"
            raise LayoutError(name, reason, "Copy it again; a Git LFS pointer is no model.")
        entries = _entries(stream.read(length), name)
    tensors: dict[str, int] = {}
    end = 0
    for tensor, start, stop, entry in sorted(_places(entries, name), key=lambda place: place[1]):
        needed = _needed(entry, name, tensor)
        if stop - start != needed:
            value = f"{entry.get('dtype')} {entry.get('shape')} needs {needed} bytes, has {stop - start}"
            raise LayoutError(
                f"{name}: {tensor}", "has another size than its type and shape say", "Copy it again.", value=value
            )
        if start != end:
            raise LayoutError(f"{name}: {tensor}", "does not begin where the tensor before it ends", "Copy it again.")
        tensors[tensor], end = needed, stop
    if 8 + length + end != size:
        reason = f"should have {8 + length + end} bytes and has {size}"
        raise LayoutError(name, reason, "The file is cut off or damaged: copy it again.")
    return Header(tensors)


def _entries(header: bytes, name: str) -> dict[str, dict[str, Any]]:
    try:
        content: object = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise LayoutError(name, f"has a damaged header: {error}", "Copy it again.") from error
    if not isinstance(content, dict):
        raise LayoutError(name, "has a header that is no JSON object", "Copy it again.")
    entries = {tensor: entry for tensor, entry in cast("dict[str, object]", content).items() if tensor != "__metadata__"}
    for tensor, entry in entries.items():
        if not isinstance(entry, dict):
            reason = "is not described by type, shape and place in the header"
            raise LayoutError(f"{name}: {tensor}", reason, "Copy it again.", value=shortened(entry, 60))
    return cast("dict[str, dict[str, Any]]", entries)


def _places(entries: Mapping[str, Mapping[str, Any]], name: str) -> list[tuple[str, int, int, Mapping[str, Any]]]:
    places: list[tuple[str, int, int, Mapping[str, Any]]] = []
    for tensor, entry in entries.items():
        offsets = _sizes(entry.get("data_offsets"))
        if offsets is None or len(offsets) != 2:  # noqa: PLR2004 - begin and end
            raise LayoutError(f"{name}: {tensor}", "has no place in the file", "Copy it again.")
        start, stop = offsets
        places.append((tensor, start, stop, entry))
    return places


def _sizes(value: object) -> list[int] | None:
    """Return a list of counts, or None where it is none: JSON has other numbers, and true and false that Python takes for some."""
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    return cast("list[int]", items) if all(type(item) is int and item >= 0 for item in items) else None


def _needed(entry: Mapping[str, Any], name: str, tensor: str) -> int:
    dtype = str(entry.get("dtype"))
    if dtype not in BITS:
        raise LayoutError(f"{name}: {tensor}", "has an unknown type", f"Types are {sorted(BITS)}.", value=dtype)
    shape = _sizes(entry.get("shape"))
    if shape is None:
        value = shortened(entry.get("shape"), 60)
        raise LayoutError(f"{name}: {tensor}", "has no shape", "Copy it again.", value=value)
    return math.prod(shape) * BITS[dtype] // 8
