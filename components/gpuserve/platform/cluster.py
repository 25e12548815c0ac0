"""Which cluster a stack file names."""

from collections.abc import Mapping
from typing import Any

from gpuserve.kubernetes.cluster import KEYS, ClusterChoice, as_text
from gpuserve.platform.encrypted import encrypted_parts


def cluster_choice(config: Mapping[str, Any], file: str) -> ClusterChoice:
    """Return what the configuration in a stack file says about the cluster."""
    given = {key: config[f"kubernetes:{key}"] for key in KEYS if config.get(f"kubernetes:{key}") is not None}
    encrypted = frozenset(key for key, value in given.items() if any(encrypted_parts(value, key)))
    context, cluster, kubeconfig = (None if key in encrypted else as_text(given.get(key)) for key in KEYS)
    return ClusterChoice(context, cluster, kubeconfig, encrypted, file)
