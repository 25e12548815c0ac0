"""Text of a damaged ONNX file that is no text.

protobuf's parser does not look at the strings of a `proto2` file, which ONNX is: a changed byte in a name comes out as `bytes` where every
reader expects `str`, long after the parser was content. So all strings are looked at once, and no weights are. Remarks (`doc_string`) are
left out: nothing reads them, and some old exporters wrote them in the letters of their machine.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message


def undecodable(message: "Message") -> str | None:
    """Return the place of the first string that is not UTF-8, such as `graph.node[3].name`, or None."""
    texts, parts = _fields(message.DESCRIPTOR)
    for name, repeated in texts:
        value: Any = getattr(message, name)
        for index, text in enumerate(value if repeated else (value,)):
            if not isinstance(text, str):
                return f"{name}[{index}]" if repeated else name
    for name, repeated in parts:
        if not repeated and not message.HasField(name):
            continue
        part: Any = getattr(message, name)
        for index, inner in enumerate(part if repeated else (part,)):
            found = undecodable(inner)
            if found is not None:
                return f"{name}[{index}].{found}" if repeated else f"{name}.{found}"
    return None


@cache
def _fields(kind: "Descriptor") -> tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]]:
    """Return the fields of a kind of message that are text, and those that are messages: name, and whether there may be several.

    In `proto2` what may be there once may also be told to be absent, and nothing else may.
    """
    strings = [field for field in kind.fields if field.type == field.TYPE_STRING and field.name != "doc_string"]
    texts = [(field.name, not field.has_presence) for field in strings]
    parts = [(field.name, not field.has_presence) for field in kind.fields if field.message_type is not None]
    return tuple(texts), tuple(parts)
