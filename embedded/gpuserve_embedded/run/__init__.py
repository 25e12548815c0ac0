"""The whole job on one machine: tools, cluster, base image, `pulumi up`, a real prediction; and its end."""
