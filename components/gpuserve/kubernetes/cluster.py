"""Which cluster is meant, in the words of Pulumi's Kubernetes provider."""

import json
from collections.abc import Callable
from dataclasses import dataclass

KEYS = ("context", "cluster", "kubeconfig")
"""What follows `kubernetes:` in a stack file and decides which cluster is asked."""


@dataclass(frozen=True)
class ClusterChoice:
    """What a stack says about its cluster; what it leaves out, the environment decides, as for Pulumi itself.

    Attributes:
        context: Context of the kubeconfig. Default: its current one.
        cluster: Cluster of the kubeconfig. Default: that of the context.
        kubeconfig: Path of a kubeconfig, or the content of one. Default: what `KUBECONFIG` names, else ``~/.kube/config``.
        encrypted: Which of the three only Pulumi can read, hence are None here.
        file: The stack file, for messages; None where there is none, or nobody knows it.
        context_field: Where the context is written, for messages.
    """

    context: str | None = None
    cluster: str | None = None
    kubeconfig: str | None = None
    encrypted: frozenset[str] = frozenset()
    file: str | None = None
    context_field: str = "config.kubernetes:context"

    def field(self, key: str) -> str:
        """Return where one of `KEYS` is written."""
        return self.context_field if key == "context" else f"config.kubernetes:{key}"


AMBIENT = ClusterChoice()
"""The cluster of the environment."""


def as_text(value: object) -> str | None:
    """Return a value of the configuration as Pulumi hands it on: texts as they are, all else as JSON, such as a kubeconfig."""
    return value if isinstance(value, str | None) else json.dumps(value)


def configured_choice(value: Callable[[str], object]) -> ClusterChoice:
    """Return what Pulumi's configuration says about the cluster, secrets in plain.

    Args:
        value: Returns the value of a key, such as `kubernetes:context`; None where it is not set.
    """
    context, cluster, kubeconfig = (as_text(value(f"kubernetes:{key}")) for key in KEYS)
    return ClusterChoice(context, cluster, kubeconfig)
