"""Servers: one version of a model, served by one runtime."""

from gpuserve.serving.component import ServingStack
from gpuserve.serving.manifests import endpoint, manifests, metrics_source, scale_target
from gpuserve.serving.spec import ServerResources, ServingSpec

__all__ = ["ServerResources", "ServingSpec", "ServingStack", "endpoint", "manifests", "metrics_source", "scale_target"]
