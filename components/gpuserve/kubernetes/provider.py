"""The Kubernetes provider of a whole program, with the stack's own configuration of it."""

import os
from typing import Any

import pulumi
import pulumi_kubernetes

_TEXTS = {
    "cluster": "cluster",
    "clusterIdentifier": "cluster_identifier",
    "context": "context",
    "kubeconfig": "kubeconfig",
    "namespace": "namespace",
    "renderYamlToDirectory": "render_yaml_to_directory",
}
"""Keys below `kubernetes:` to arguments of the provider."""

_SWITCHES = {
    "deleteUnreachable": "delete_unreachable",
    "enableServerSideApply": "enable_server_side_apply",
    "skipUpdateUnreachable": "skip_update_unreachable",
    "suppressDeprecationWarnings": "suppress_deprecation_warnings",
    "suppressHelmHookWarnings": "suppress_helm_hook_warnings",
}

_PATIENT = {"qps": 200, "burst": 400}
"""Requests per second; the provider's own 5 make a large preview wait."""


def configured_provider(name: str) -> pulumi_kubernetes.Provider:
    """Return a provider that reads the stack's ``kubernetes:`` configuration, as Pulumi's default provider does.

    The engine hands that configuration to the default provider alone. Without any, the cluster is the current context of `KUBECONFIG`, or
    of ``~/.kube/config``.

    Args:
        name: Name of the resource.

    Raises:
        pulumi.ConfigTypeError: When a switch is neither true nor false, or ``kubeClientSettings`` is no object.
    """
    config = pulumi.Config("kubernetes")
    given: dict[str, Any] = {argument: _text(config, key) for key, argument in _TEXTS.items()}
    if given["kubeconfig"] is None and os.pathsep in os.environ.get("KUBECONFIG", ""):
        # The SDK would hand the list over as if it were one file; of nothing, the provider reads the list itself.
        given["kubeconfig"] = ""
    given |= {argument: config.get_bool(key) for key, argument in _SWITCHES.items()}
    given["kube_client_settings"] = {**_PATIENT, **(config.get_object("kubeClientSettings") or {})}
    return pulumi_kubernetes.Provider(
        name,
        enable_config_map_mutable=True,  # rules and dashboards are changed in place: their names are agreed upon
        enable_secret_mutable=True,  # so is a renewed certificate
        **given,
    )


def _text(config: pulumi.Config, key: str) -> pulumi.Input[str] | None:
    """Return a value, which stays as secret as the stack's file has it."""
    value = config.get(key)
    if value is None or not pulumi.runtime.is_config_secret(config.full_key(key)):
        return value
    return pulumi.Output.secret(value)
