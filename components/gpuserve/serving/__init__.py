"""Servers: one version of a model, served by one runtime."""
