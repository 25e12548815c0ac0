"""Values of the wrong type or size, in the words of who writes YAML, which has no tuples and no dictionaries."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

_BOUNDS = {
    "greater_than_equal": "write {ge} or more",
    "greater_than": "write more than {gt}",
    "less_than_equal": "write {le} or less",
    "less_than": "write less than {lt}",
    "too_short": "write at least {min_length}",
    "too_long": "write at most {max_length}",
    "string_too_short": "write at least {min_length} characters",
    "string_too_long": "write at most {max_length} characters",
}

_HANDED_ON = {
    "Placement": "the `placement` of a GpuNodePool",
    "Endpoint": "the `endpoint` of a ServingStack",
    "ScaleTarget": "the `scale_target` of a ServingStack",
    "MetricsSource": "the `metrics_source` of a ServingStack",
}
"""What components hand each other, and where programs get it."""

_WRITTEN: tuple[type, ...] = (str, int, float, list, tuple, Mapping, type(None))
"""What says itself what it is."""


def in_words(detail: ErrorDetails, fields: Sequence[str]) -> tuple[str, str] | None:
    """Return why a value is refused and what to write instead, or None where pydantic's sentence is not about type or size.

    Args:
        detail: What pydantic says. The value is not repeated, as it may be a secret; a number in it is none.
        fields: The fields that an object has at this place.
    """
    value, kind = detail["input"], detail["type"]
    if kind in _BOUNDS:
        return detail["msg"][:1].lower() + detail["msg"][1:], _BOUNDS[kind].format(**detail.get("ctx", {}))
    match kind:
        case "dataclass_type":
            name = detail.get("ctx", {}).get("class_name", "")
            wanted = _with_article(name)
            fix = f"pass {_HANDED_ON.get(name, wanted)}"
            if not isinstance(value, _WRITTEN):
                return f"is {_with_article(type(value).__name__)}, and {wanted} is wanted", fix
        case "tuple_type" | "list_type" | "set_type" | "frozen_set_type":
            wanted, fix = "a list", _list(value, fields)
        case "model_type":
            wanted, fix = "an object", "write an object with fields of these: " + ", ".join(map(repr, fields))
        case "dict_type":
            wanted, fix = "an object", "write an object: a name, a colon and a value for each item"
        case "int_type" | "int_parsing" | "int_from_float":
            wanted, fix = "a whole number", _number(value, r"\d+") or "write a whole number"
        case "float_type" | "float_parsing":
            wanted, fix = "a number", _number(value, r"\d+(?:\.\d+)?") or "write a number"
        case "string_type":
            wanted, fix = "a text", "write a text"
        case _:
            return None
    return f"is empty, and {wanted} is wanted" if value is None else f"is not {wanted}", fix


def _with_article(name: str) -> str:
    return f"{'an' if name[:1] in set('AEIOUaeiou') else 'a'} {name}"


def _list(value: Any, fields: Sequence[str]) -> str:
    if isinstance(value, Mapping) and fields:
        return "write a list of objects, each with fields of these: " + ", ".join(map(repr, fields))
    return "write a list, in brackets also where it has one item"


def _number(value: Any, pattern: str) -> str:
    """Return what to write where a number is in quotes, or a sign or unit follows it, as in `80%`; else nothing."""
    found = re.fullmatch(rf"({pattern})\s*[%a-zA-Z]{{0,3}}", value.strip()) if isinstance(value, str) else None
    return f"write {found[1]}, without quotes" if found else ""
