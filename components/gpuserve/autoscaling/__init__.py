"""Autoscaling: replicas that follow what the servers themselves measure."""
