"""The base of every spec: frozen, strict, and with errors that say what to do."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gpuserve.kubernetes.errors import Problem, SpecError, suggestion
from gpuserve.kubernetes.outputs import is_output
from gpuserve.kubernetes.secrecy import without_secrets
from gpuserve.kubernetes.wrong_types import in_words

_OUTPUT = "is a Pulumi Output"
_PLAIN = "pass a plain value, for example from the stack's configuration"


class Spec(BaseModel):
    """A validated, immutable declaration; unknown fields are errors."""

    # Our own errors show values, without secrets; pydantic's, which `--debug` shows below them, would show all of them.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    @classmethod
    def parse(cls, data: "Mapping[str, Any] | Self", *, file: str | None = None, path: str = "") -> Self:
        """Validate ``data`` into a spec.

        Args:
            data: What the user wrote, or a spec, which is returned as it is.
            file: Where it was read from, for error messages.
            path: Dotted path of ``data`` inside that file.

        Raises:
            SpecError: With every problem found, each with field, value, reason and fix.
        """
        if isinstance(data, cls):
            return data
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            details = _without_echoes(error.errors(include_url=False))
            raise SpecError(_problem(cls, detail, file, path) for detail in details) from error

    def chosen(self) -> dict[str, object]:
        """Return what differs from the defaults.

        Not what was given: a spec that was written out and read again, on its way to a provider or a Job, gives everything.
        """
        fields = type(self).model_fields.items()
        return {name: value for name, field in fields if (value := getattr(self, name)) != field.get_default()}


def _without_echoes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop what follows from other errors: "too short" of lists whose wrong items pydantic does not count, and defaults from wrong fields."""
    details = [detail for detail in details if detail["type"] != "default_factory_not_called"]
    wrong = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in wrong]


def _problem(cls: type[BaseModel], detail: ErrorDetails, file: str | None, path: str) -> Problem:
    field = _dotted(path, detail["loc"])
    value = detail.get("input")
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    shown: object = value
    reason, fix = message, "correct the value"
    match detail["type"]:
        case "extra_forbidden":
            reason, fix = "unknown field", suggestion(str(detail["loc"][-1]), _fields_at(cls, detail["loc"][:-1]))
        case "missing":
            shown, reason, fix = None, "is required but missing", f"add `{detail['loc'][-1]}:`"
        case "value_error" if not is_output(value) or _OUTPUT in message:
            reason, _, said = str(detail.get("ctx", {}).get("error", detail["msg"])).partition("; ")
            fix = said or fix
            shown = None if is_output(value) or isinstance(value, Mapping | BaseModel) else value
        case _ if is_output(value):
            shown, reason, fix = None, f"{_OUTPUT}, but must be known at plan time", _PLAIN
        case "bool_type":
            reason, fix = "is neither true nor false", "write `true` or `false`, without quotes"
        case "literal_error" | "enum":
            reason, fix = "is not one of the possible values", f"use {detail.get('ctx', {}).get('expected', '')}"
        case "string_type" if isinstance(value, bool | int | float):
            reason, fix = "is no text", f'write it in quotes: "{json.dumps(value)}"'
        case "string_pattern_mismatch":
            fix = _matching(field, detail) or fix
        case _:
            # Of an object that a program passed, an address says nothing.
            shown = None if type(value).__repr__ is object.__repr__ else value
            reason, fix = in_words(detail, _fields_at(cls, detail["loc"])) or (reason, fix)
    return Problem(field, shown, reason, fix, file)


def _matching(field: str, detail: ErrorDetails) -> str:
    """Return what to write where it takes no more than the right case, or nothing around it; else nothing."""
    value = str(detail.get("input"))
    near = re.sub(r"^https?://", "", value).strip("/ ").lower()
    # What may be a secret is not repeated in lower case either.
    meant = without_secrets(field, value) == value and re.search(detail.get("ctx", {}).get("pattern", "$^"), near)
    return f"write {near!r}" if meant else ""


def _dotted(path: str, loc: tuple[int | str, ...]) -> str:
    text = path
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(top level)"


def _fields_at(cls: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the field names that are allowed at ``loc`` below ``cls``."""
    current: type[BaseModel] | None = cls
    for part in loc:
        if current is None or isinstance(part, int) or part not in current.model_fields:
            continue
        current = next(_models_in(current.model_fields[part].annotation), None)
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def known_at_plan_time(value: object) -> object:
    """Refuse a Pulumi Output where the value decides which objects exist.

    Use as a ``BeforeValidator`` on structural fields (counts, modes, names).

    Raises:
        ValueError: When ``value`` is an Output.
    """
    if is_output(value):
        msg = f"{_OUTPUT}, but it decides which objects exist and must be known at plan time; {_PLAIN}"
        raise ValueError(msg)
    return value


def plain(value: object) -> Any:
    """Return ``value`` as plain data: specs as mappings, quantities as written; Outputs pass through untouched."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float) or is_output(value):
        return value
    return str(value)
