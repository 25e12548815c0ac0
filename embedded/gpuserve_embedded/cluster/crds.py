"""Custom resource definitions of the kinds that the platform may make."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import yaml

from gpuserve_embedded.cluster.api import Manifest
from gpuserve_embedded.cluster.layout import cache_folder

BEFORE_GATEWAY: Final = ("gateway-api", "traefik")
"""Projects whose kinds the gateway waits for: without one of them it routes nothing."""

INSTALLED: Final[Mapping[str, frozenset[str] | None]] = {
    "gateway-api": None,
    "traefik": None,
    "cert-manager": frozenset({"Certificate", "ClusterIssuer", "Issuer"}),
    "prometheus-operator": frozenset({"PodMonitor", "Probe", "PrometheusRule", "ServiceMonitor"}),
}
"""Projects, and which of their kinds (None: all).

Of cert-manager those that people write; of the Prometheus operator those that say what to scrape and to alert on. The rest
install programs that nothing here would run, and the API server takes five seconds over their schemas.
"""


def definitions(name: str, folder: Callable[[str], Path]) -> list[Manifest]:
    """Return those definitions of one project that are installed.

    Reading two megabytes of YAML takes seconds, of JSON a few milliseconds, so the JSON is kept in the cache.

    Args:
        name: one of ``INSTALLED``.
        folder: returns the folder of that project's YAML files.
    """
    source = folder(name)
    kinds = INSTALLED[name]
    parts = [
        str(source),
        *sorted(kinds or ()),
        *(f"{path.name} {path.stat().st_size}" for path in sorted(source.glob("*.yaml"))),
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    kept = cache_folder() / "crds" / f"{name}-{key}.json"
    if kept.exists():
        return cast("list[Manifest]", json.loads(kept.read_text()))
    found = [definition for definition in _read(source) if kinds is None or definition["spec"]["names"]["kind"] in kinds]
    kept.parent.mkdir(parents=True, exist_ok=True)
    written = kept.with_suffix(".new")
    written.write_text(json.dumps(found))
    written.rename(kept)
    return found


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
    """A safe loader that reads ``=`` as the text it is: YAML 1.1 gives it a meaning that nobody uses."""


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:value", _text)


def _read(folder: Path) -> list[Manifest]:
    found: list[Manifest] = []
    for path in sorted(folder.glob("*.yaml")):
        documents = yaml.load_all(path.read_text(), Loader=_Loader)
        found += [
            {key: value for key, value in document.items() if key != "status"}
            for document in cast("list[dict[str, Any] | None]", list(documents))
            if document and document.get("kind") == "CustomResourceDefinition"
        ]
    return found
