"""Monitoring: the same five series, alerts on what services promise, and one dashboard, for every runtime."""

from gpuserve.monitoring.adapter import adapter_rules
from gpuserve.monitoring.component import MonitoringStack
from gpuserve.monitoring.manifests import manifests, queries
from gpuserve.monitoring.spec import MonitoringSpec, SloSpec

__all__ = ["MonitoringSpec", "MonitoringStack", "SloSpec", "adapter_rules", "manifests", "queries"]
