"""Names of resources in Pulumi's state, which one program may give once to each type."""

from collections.abc import Iterable
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Names:
    """What the names of the resources below a component begin with.

    Objects in the cluster are not called so: two Platforms of one program may be in two clusters.

    Attributes:
        prefix: Begins each name, such as ``east/``; default nothing.
        former: What they began with in earlier states, so that a renamed Platform keeps its resources. Default: nothing else.
    """

    prefix: str = ""
    former: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        """Return a resource's name in the state."""
        return self.prefix + name

    def aliases(self, *names: str) -> list[pulumi.Alias]:
        """Return all earlier names of a resource that was called ``names`` without what they begin with."""
        return [pulumi.Alias(name=former + name) for former in self.former for name in names]


class Named(pulumi.ComponentResource):
    """A component that says what the names of the resources below it begin with."""

    names: Names


def names_below(name: str, opts: pulumi.ResourceOptions | None) -> Names:
    """Return the names below a component that keeps its own, and those that it had by its aliases."""
    return Names(f"{name}/", tuple(f"{old}/" for old in _old_names(opts.aliases if opts else None)))


def _old_names(aliases: object) -> Iterable[str]:
    for alias in aliases if isinstance(aliases, list) else ():
        name = alias.split("::")[-1] if isinstance(alias, str) else getattr(alias, "name", None)
        if isinstance(name, str):
            yield name
