"""Monitoring: the same five series, one burn-rate alert and one dashboard for every runtime."""

from gpuserve.monitoring.adapter import adapter_rules
from gpuserve.monitoring.component import MonitoringStack
from gpuserve.monitoring.manifests import manifests, queries
from gpuserve.monitoring.spec import MonitoringSpec, SloSpec

__all__ = ["MonitoringSpec", "MonitoringStack", "SloSpec", "adapter_rules", "manifests", "queries"]
