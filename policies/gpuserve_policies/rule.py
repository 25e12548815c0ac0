"""What a rule is: a pure function over one manifest, with the words that explain it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Manifest = Mapping[str, Any]
"""One Kubernetes object as plain data; a leaf that is no plain data (a Pulumi Output, say) is a value not known yet."""

Severity = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True)
class Context:
    """What a rule may know beyond the object itself.

    Attributes:
        built_images: Image references by content tag that the same stack builds, and replaces by digests when it is applied
            (docs/adr/0005).
    """

    built_images: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Violation:
    """One place of an object that breaks a rule, or that could not be checked yet.

    Attributes:
        field: Path inside the object, for example ``spec.template.spec.containers[0].image``.
        value: What stands there; ``None`` when nothing does.
        reason: Why it breaks the rule, as a clause.
        unchecked: True when the value is known only once the stack is applied, so that nothing can be said about it.
    """

    field: str
    value: object
    reason: str
    unchecked: bool = False


Check = Callable[[Manifest, Context], Iterator[Violation]]


@dataclass(frozen=True)
class Rule:
    """A check and what people need to know about it.

    Attributes:
        name: Short name in kebab case, the same in the policy pack and in ``gpuserve check``.
        description: What must hold, in one sentence, and why.
        check: Yields every violation in one manifest; nothing for kinds that the rule does not concern.
        fix: What to write instead.
        severity: How bad a violation is.
        url: Where the requirement is explained.
    """

    name: str
    description: str
    check: Check
    fix: str
    severity: Severity
    url: str


class ValueNotKnownError(Exception):
    """A rule read a value that is known only once the stack is applied."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"{field} is not known yet")

    @property
    def violation(self) -> Violation:
        """The finding that stands for it, so that it is never passed over in silence."""
        return Violation(
            self.field, None, "could not be checked in this preview: its value is known only in `up`", unchecked=True
        )


def read(data: Mapping[str, Any], key: str, at: str) -> Any:
    """Return ``data[key]`` or ``None``.

    Raises:
        ValueNotKnownError: When the value is no plain data, hence not known yet.
    """
    value = data.get(key)
    if value is None or isinstance(value, str | bool | int | float | Mapping | list | tuple):
        return value
    raise ValueNotKnownError(f"{at}.{key}" if at else key)
