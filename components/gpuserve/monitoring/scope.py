"""Whose series a rule or a panel reads: several stacks may share a cluster and its Prometheus."""

from collections.abc import Iterable
from dataclasses import dataclass

STACK_LABEL = "stack"
"""Label of every series that is recorded per service: two stacks may each have a service of one name."""


@dataclass(frozen=True)
class Scope:
    """One stack's part of a Prometheus.

    Attributes:
        stack: The stack, as in `STACK_LABEL`.
        namespaces: Namespaces of its pods, which no other stack has pods in.
    """

    stack: str
    namespaces: tuple[str, ...]

    @classmethod
    def of(cls, stack: str, namespaces: Iterable[str]) -> "Scope":
        """Return the scope of a stack, with each namespace once."""
        return cls(stack, tuple(sorted(set(namespaces))))

    def pods(self, *matchers: str) -> str:
        """Return a selector of series with a namespace: the stack's, and of those what ``matchers`` say."""
        return "{" + ",".join((*matchers, f'namespace=~"{"|".join(self.namespaces)}"')) + "}"

    def services(self, *matchers: str) -> str:
        """Return a selector of series that are recorded per service: the stack's, and of those what ``matchers`` say."""
        return "{" + ",".join((*matchers, f'{STACK_LABEL}="{self.stack}"')) + "}"
