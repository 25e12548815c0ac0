"""The `gpuserve` command: what people and CI do with a stack file besides `pulumi up`."""
