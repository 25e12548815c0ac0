"""Errors a user can act on: where, what was given, why it is wrong, what to write instead."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from gpuserve.kubernetes.secrecy import without_secrets


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what the user wrote.

    Attributes:
        field: Dotted path inside the file, for example ``services[0].traffic.host``.
        value: The value that was given, or ``None`` when the field is missing. The message leaves secrets out of it.
        reason: Why it is refused, as a clause ("is not a DNS label").
        fix: What to write instead.
        file: The file it stands in, or ``None`` for values given in Python.
    """

    field: str
    value: object
    reason: str
    fix: str
    file: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.file else self.field
        given = "" if self.value is None else f" = {without_secrets(self.field, self.value)!r}"
        return f"{where}{given}: {self.reason}. Fix: {self.fix}"


class GpuserveError(Exception):
    """Base of every error that gpuserve raises on purpose; its message is meant for users."""


class SpecError(GpuserveError, ValueError):
    """One or more problems in a spec, all of a file at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, field: str, value: object, reason: str, fix: str, file: str | None = None) -> Self:
        """Return the error of one `Problem` alone."""
        return cls([Problem(field, value, reason, fix, file)])


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean ...`` for a near miss, else the list of what is known."""
    from difflib import get_close_matches

    choices = sorted(known)
    near = get_close_matches(word, choices, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "use one of " + ", ".join(repr(choice) for choice in choices) if choices else "remove it"
