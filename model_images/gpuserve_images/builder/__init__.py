"""Builds inside a cluster: the same stages as a Kubernetes Job, with what they read sent along through the registry."""
