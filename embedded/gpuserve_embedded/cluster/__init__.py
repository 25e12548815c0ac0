"""The embedded cluster: a real one-node Kubernetes on a bare machine.

from gpuserve_embedded import cluster

cluster.start(print)
cluster.status().ready
cluster.stop()
"""

from gpuserve_embedded.cluster.cleanup import leftovers
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import KUBECONFIG
from gpuserve_embedded.cluster.lifecycle import Progress, check, install, prepare, start, stop
from gpuserve_embedded.cluster.status import ClusterStatus, DaemonStatus, PodStatus, status

__all__ = [
    "KUBECONFIG",
    "ClusterError",
    "ClusterStatus",
    "DaemonStatus",
    "PodStatus",
    "Progress",
    "check",
    "install",
    "leftovers",
    "prepare",
    "start",
    "status",
    "stop",
]
