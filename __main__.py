"""The Pulumi program: one stack's platform and nothing else."""

import pulumi

from gpuserve import Platform
from gpuserve.kubernetes.engine import await_outputs_together, log_debug_in_passing
from gpuserve.kubernetes.provider import configured_provider

await_outputs_together()
log_debug_in_passing()
platform = Platform(
    pulumi.get_stack(),
    pulumi.Config("gpuserve").require_object("platform"),
    pulumi.ResourceOptions(providers=[configured_provider("cluster")]),
)
pulumi.export("services", platform.services)
