"""Which cluster a stack file names, in the words of Pulumi's Kubernetes provider."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.platform.encrypted import encrypted_parts

KEYS = ("context", "cluster", "kubeconfig")
"""What follows `kubernetes:` in a stack file and decides which cluster is asked."""


@dataclass(frozen=True)
class ClusterChoice:
    """What a stack file says about its cluster; what it leaves out, the environment decides, as for Pulumi itself.

    Attributes:
        context: Context of the kubeconfig. Default: its current one.
        cluster: Cluster of the kubeconfig. Default: that of the context.
        kubeconfig: Path of a kubeconfig, or the content of one. Default: what `KUBECONFIG` names, else ``~/.kube/config``.
        encrypted: Which of the three only Pulumi can read, hence are None here.
        file: The stack file; None where there is none.
    """

    context: str | None = None
    cluster: str | None = None
    kubeconfig: str | None = None
    encrypted: frozenset[str] = frozenset()
    file: str | None = None


AMBIENT = ClusterChoice()
"""The cluster of the environment."""


def cluster_choice(config: Mapping[str, Any], file: str) -> ClusterChoice:
    """Return what the configuration in a stack file says about the cluster."""
    given = {key: config[f"kubernetes:{key}"] for key in KEYS if config.get(f"kubernetes:{key}") is not None}
    encrypted = frozenset(key for key, value in given.items() if any(encrypted_parts(value, key)))
    texts = {key: _text(value) for key, value in given.items() if key not in encrypted}
    return ClusterChoice(**texts, encrypted=encrypted, file=file)


def _text(value: object) -> str:
    """Return a value as Pulumi hands it on: texts as they are, all else as JSON, in which a kubeconfig may be written too."""
    return value if isinstance(value, str) else json.dumps(value)
