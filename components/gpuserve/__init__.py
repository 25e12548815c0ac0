"""gpuserve: from a model file to a monitored, autoscaled, canaried GPU endpoint on Kubernetes."""
