"""The embedded cluster: a real one-node Kubernetes on a bare machine.

    from gpuserve_embedded import cluster

    cluster.start(print)
    cluster.status().ready
    cluster.stop()
"""

from gpuserve_embedded.cluster.cleanup import leftovers
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import KUBECONFIG
from gpuserve_embedded.cluster.lifecycle import start, stop

__all__ = ["KUBECONFIG", "ClusterError", "leftovers", "start", "stop"]
