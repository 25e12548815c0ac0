"""Traffic: which requests reach which version of a service, over Gateway API."""
