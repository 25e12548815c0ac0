"""What the API server says when a quota refuses a pod, taken apart."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

# k8s.io/apiserver, pkg/admission/plugin/resourcequota/controller.go; each list names only the resources that do not fit.
_REFUSAL = re.compile(
    r"exceeded quota: (?P<quota>\S+), requested: (?P<requested>\S+), used: (?P<used>\S+), limited: (?P<limited>\S+)"
)


@dataclass(frozen=True)
class Excess:
    """A resource of which a quota has too little left for a pod.

    Attributes:
        quota: Name of the ResourceQuota.
        resource: What it limits, such as `requests.nvidia.com/gpu`.
        requested: What the pod requests, as Kubernetes writes amounts.
        used: What others have.
        limited: What there is in all.
    """

    quota: str
    resource: str
    requested: str
    used: str
    limited: str

    @property
    def passes(self) -> bool:
        """Whether waiting may help: the pod fits into a quota that nobody else uses."""
        return parse_quantity(self.requested) <= parse_quantity(self.limited)

    def __str__(self) -> str:
        """Return the numbers."""
        return f"{self.used} of {self.limited} {self.resource} are used, and the build requests {self.requested}"


def excesses(said: str) -> list[Excess]:
    """Return what does not fit, by the API server's message; empty when it is about something else."""
    found = _REFUSAL.search(said)
    if found is None:
        return []
    requested, used, limited = (dict(_amounts(found[part])) for part in ("requested", "used", "limited"))
    return [
        Excess(found["quota"], resource, amount, used.get(resource, "0"), limited.get(resource, "0"))
        for resource, amount in requested.items()
    ]


def _amounts(text: str) -> Iterator[tuple[str, str]]:
    for part in text.rstrip(".").split(","):
        resource, _, amount = part.partition("=")
        yield resource, amount
