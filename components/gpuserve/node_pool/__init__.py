"""GPU nodes: who may use them, and how much of them."""

from gpuserve.node_pool.component import GpuNodePool
from gpuserve.node_pool.manifests import manifests, placement
from gpuserve.node_pool.spec import NodePoolSpec, QuotaSpec

__all__ = ["GpuNodePool", "NodePoolSpec", "QuotaSpec", "manifests", "placement"]
