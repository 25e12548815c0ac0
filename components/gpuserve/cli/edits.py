"""What somebody changed by hand, as the cluster remembers it: `pulumi up --refresh` does not see what was only added.

The provider compares lists as far as the program's own go, and maps by the program's own keys. A variable added to a container stays until
something that the stack declares of that object changes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpuserve.cli.readiness import Object

BY_HAND = frozenset({"kubectl-edit", "kubectl-patch", "kubectl-set"})
"""Managers of fields that only people are. Apply, create and replace may be the way that rendered manifests took; a scale or a restart is
what these are for (https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers)."""

MOST = 4
"""Fields of an edit that are told."""


def edits(found: Object) -> list[str]:
    """Return who changed which fields of an object's spec, and when: ``spec.replicas by kubectl-edit at 2026-11-23T08:00:00Z``."""
    entries: Sequence[Mapping[str, Any]] = found["metadata"].get("managedFields") or ()
    return [
        f"{_told(list(_fields('spec', entry['fieldsV1']['f:spec'])))} by {entry['manager']} at {entry.get('time', 'an unknown time')}"
        for entry in entries
        if entry.get("manager") in BY_HAND and not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})
    ]


def _told(fields: Sequence[str]) -> str:
    more = f" and {len(fields) - MOST} more" if len(fields) > MOST else ""
    return f"{', '.join(fields[:MOST])}{more}"


def _fields(path: str, owned: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the outermost fields, of a `FieldsV1` tree, that were set as a whole."""
    if not owned or "." in owned:
        yield path
        return
    for key, inner in owned.items():
        kind, _, name = key.partition(":")
        yield from _fields(f"{path}.{name}" if kind == "f" else f"{path}[{_item(kind, name)}]", inner)


def _item(kind: str, text: str) -> str:
    """Return what names an item of a list: its key's values, its value, or its place."""
    if kind == "i":
        return text
    value = json.loads(text)
    return ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
