"""`MonitoringStack`, the resource."""

from collections.abc import Mapping
from typing import Any

import pulumi

from gpuserve.kubernetes.component import Component, refusing
from gpuserve.monitoring.manifests import manifests, queries
from gpuserve.monitoring.spec import MonitoringSpec, stack_label


class MonitoringStack(Component):
    """The common series, alerts and dashboard for servers of any runtime.

    Attributes:
        resources: The Kubernetes objects by role.
        queries: Every PromQL expression in them.
    """

    def __init__(
        self,
        name: str,
        args: MonitoringSpec | Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        with refusing(name):
            spec = MonitoringSpec.parse(args)
            if "stack" not in spec.model_fields_set:
                spec = spec.model_copy(update={"stack": stack_label(pulumi.get_stack(), name)})
            objects = manifests(name, spec)
        super().__init__("MonitoringStack", name, spec, opts)
        self.resources = self.register_children(objects, lasting=objects)  # other programs know them by their names
        self.queries = queries(spec)
        self.register_outputs({"namespace": spec.namespace, "queries": self.queries})
