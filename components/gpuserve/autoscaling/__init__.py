"""Autoscaling: replicas that follow what the servers themselves measure."""

from gpuserve.autoscaling.component import GpuAutoscaler
from gpuserve.autoscaling.manifests import manifests
from gpuserve.autoscaling.spec import AutoscalerSpec

__all__ = ["AutoscalerSpec", "GpuAutoscaler", "manifests"]
