"""Monitoring: the same five series, alerts on what services promise, and one dashboard, for every runtime."""
