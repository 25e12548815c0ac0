"""The Pulumi program: one stack's platform and nothing else."""

import pulumi
import pulumi_kubernetes

from gpuserve.kubernetes.engine import await_outputs_together, log_debug_in_passing
from gpuserve.platform.component import Platform

await_outputs_together()
log_debug_in_passing()
cluster = pulumi_kubernetes.Provider(
    "cluster",
    kube_client_settings={"qps": 200, "burst": 400},  # the provider's own 5 per second make a large preview wait
    enable_config_map_mutable=True,  # rules and dashboards are changed in place: their names are agreed upon
    enable_secret_mutable=True,  # so is a renewed certificate
)
platform = Platform(
    pulumi.get_stack(),
    pulumi.Config("gpuserve").require_object("platform"),
    pulumi.ResourceOptions(providers=[cluster]),
)
pulumi.export("services", platform.services)
