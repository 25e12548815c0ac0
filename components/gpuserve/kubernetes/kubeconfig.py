"""From a kubeconfig, and what a stack chooses of it, to the configuration of a client; the choice is read as Pulumi's provider does."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from kubernetes.config import ConfigException, kube_config

from gpuserve.kubernetes.cluster import ClusterChoice
from gpuserve.kubernetes.errors import Problem, SpecError, suggestion

NO_YAML = (yaml.YAMLError, UnicodeDecodeError)
"""What reading a kubeconfig raises where the file is none."""


def configured(
    named: str, chosen: ClusterChoice, environment: Mapping[str, str] = os.environ
) -> kubernetes.client.Configuration:
    """Return how to reach a cluster.

    Args:
        named: Path of a kubeconfig, or several as in `KUBECONFIG`; empty for the default, or the pod this runs in.
        chosen: What the stack says, in plain; its kubeconfig comes before the one that is named.
        environment: Environment variables, by which a pod is told.

    Raises:
        SpecError: When the stack names what there is not.
        ConfigException, OSError, YAMLError, UnicodeDecodeError, TypeError: When the environment's kubeconfig cannot be used.
    """
    nothing_chosen = chosen.context is chosen.cluster is chosen.kubeconfig is None
    if nothing_chosen and not named and "KUBERNETES_SERVICE_HOST" in environment:
        configuration = _configuration()
        kubernetes.config.load_incluster_config(client_configuration=configuration)
        return configuration
    if chosen.kubeconfig is not None:
        return _from_the_stack(chosen.kubeconfig, chosen)
    return _loaded(kube_config.KubeConfigMerger(named or kube_config.KUBE_CONFIG_DEFAULT_LOCATION), chosen)


def no_kubeconfig(error: Exception) -> str:
    """Return what is wrong with a file that holds something else; nothing where it is a kubeconfig."""
    if isinstance(error, NO_YAML):
        return f"is no YAML ({line(error)})"
    # The library does not look before it takes a file's content for an object of lists.
    return "is no kubeconfig: it has no lists of clusters, contexts and users" if isinstance(error, TypeError) else ""


def line(error: Exception) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split())


def _from_the_stack(given: str, chosen: ClusterChoice) -> kubernetes.client.Configuration:
    """Follow the stack's own kubeconfig, which is a path or, as for Pulumi's provider, a content."""
    path = Path(given).expanduser()
    is_content = "\n" in given.strip() or given.lstrip().startswith("{")
    if not is_content and not path.is_file():
        raise SpecError(
            [
                _problem(
                    chosen, "kubeconfig", given, "is no file that exists", "correct the path, or remove it to use KUBECONFIG"
                )
            ]
        )
    try:
        return _loaded(kube_config.KubeConfigMerger(io.StringIO(given) if is_content else str(path)), chosen)
    except (ConfigException, OSError, *NO_YAML, TypeError) as error:
        # A parser's message shows the place that it means, and with it a key.
        unknown = "names no cluster" if is_content else f"names no cluster ({line(error)})"
        reason = unknown if isinstance(error, ConfigException) else "is no kubeconfig" if is_content else no_kubeconfig(error)
        shown = None if is_content else given
        fix = "correct it, or remove it to use KUBECONFIG"
        raise SpecError([_problem(chosen, "kubeconfig", shown, reason or unknown, fix)]) from error


def _loaded(merger: Any, chosen: ClusterChoice) -> kubernetes.client.Configuration:
    configuration = _configuration()
    # Who has to log in anew keeps the new token in the file, if there is one.
    persister = merger.save_changes if merger.paths else None
    config = _choose(merger.config, chosen)
    # Without a base path of their own, certificates are found beside the file that names them.
    options: dict[str, Any] = {"config_base_path": None, "config_persister": persister}
    kube_config.KubeConfigLoader(config, chosen.context, **options).load_and_set(configuration)
    return configuration


def _configuration() -> kubernetes.client.Configuration:
    configuration = kubernetes.client.Configuration()
    configuration.retries = False
    return configuration


def _choose(config: Any, chosen: ClusterChoice) -> Any:
    """Return a kubeconfig whose chosen context, or current one, has the chosen cluster."""
    if config is None:
        raise ConfigException("No configuration found.")
    if not isinstance(_plain(config), Mapping):
        raise TypeError
    node = config if isinstance(config, kube_config.ConfigNode) else kube_config.ConfigNode("kubeconfig", config)
    _require(node, "contexts", "context", chosen)
    _require(node, "clusters", "cluster", chosen)
    if chosen.cluster is not None:
        current = chosen.context or node.value.get("current-context")
        for entry in map(_plain, node.value["contexts"]):
            if entry["name"] == current:
                entry["context"]["cluster"] = chosen.cluster
    return node


def _require(node: Any, kind: str, key: str, chosen: ClusterChoice) -> None:
    wanted = getattr(chosen, key)
    known = [str(_plain(entry)["name"]) for entry in node.value.get(kind) or []]
    if wanted is not None and wanted not in known:
        fix = suggestion(wanted, known) if known else "set KUBECONFIG to a file that has it"
        raise SpecError([_problem(chosen, key, wanted, f"is no {key} of {_source(node, chosen)}", fix)])


def _source(node: Any, chosen: ClusterChoice) -> str:
    if node.path:
        return str(node.path)
    return "config.kubernetes:kubeconfig" if chosen.kubeconfig else "the kubeconfig"


def _plain(node: Any) -> Any:
    return node.value if isinstance(node, kube_config.ConfigNode) else node


def _problem(chosen: ClusterChoice, key: str, value: str | None, reason: str, fix: str) -> Problem:
    return Problem(chosen.field(key), value, reason, fix, chosen.file)
