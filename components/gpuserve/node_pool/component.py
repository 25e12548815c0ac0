"""The pool of GPU nodes as a Pulumi component."""

from collections.abc import Mapping
from typing import Any

import pulumi

from gpuserve.kubernetes.component import Component, refusing
from gpuserve.kubernetes.spec import plain
from gpuserve.kubernetes.values import Placement
from gpuserve.node_pool.manifests import manifests, placement
from gpuserve.node_pool.spec import NodePoolSpec


class GpuNodePool(Component):
    """Namespace, quota and reserved nodes for servers on one kind of GPU.

    A server that uses its placement must depend on the pool (``depends_on=[pool]``), so that no pod is created before the quota.

    Attributes:
        placement: Where a `ServingStack` of this pool may run.
        namespace: Namespace of its pods.

    Example:
        >>> pool = GpuNodePool("a100", {"name": "a100", "accelerator": "A100-SXM4-80GB", "gpus": 8, "quota": {"gpus": 6}})
        >>> server = ServingStack("resnet50", {..., "placement": pool.placement}, ResourceOptions(depends_on=[pool]))
    """

    placement: Placement
    namespace: str

    def __init__(
        self,
        name: str,
        args: NodePoolSpec | Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare the pool.

        Args:
            name: Name of the component; also of the quota in the cluster.
            args: A `NodePoolSpec` or a mapping with its fields.
            opts: Pulumi's options.

        Raises:
            SpecError: When ``args`` is not a valid pool; all its problems at once.
        """
        with refusing(name):
            spec = NodePoolSpec.parse(args)
            objects = manifests(name, spec)
        super().__init__("GpuNodePool", name, spec, opts)
        self.resources = self.register_children(objects, lasting=("namespace",))
        self.placement = placement(spec)
        self.namespace = spec.namespace
        self.register_outputs({"namespace": self.namespace, "placement": plain(self.placement)})
