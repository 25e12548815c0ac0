"""The Pulumi program: one stack's platform and nothing else."""

import pulumi
import pulumi_kubernetes

from gpuserve.kubernetes.engine import await_outputs_together
from gpuserve.platform.component import Platform

await_outputs_together()
cluster = pulumi_kubernetes.Provider("cluster", kube_client_settings={"qps": 200, "burst": 400})
platform = Platform(
    pulumi.get_stack(),
    pulumi.Config("gpuserve").require_object("platform"),
    pulumi.ResourceOptions(providers=[cluster]),
)
pulumi.export("services", platform.services)
