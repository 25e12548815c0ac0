"""The embedded engine: a real one-node Kubernetes cluster, and Pulumi, on a bare machine."""
