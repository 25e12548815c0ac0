"""The container registry on loopback, and a second door to it on the bridge: for pods that build images."""

from pathlib import Path
from typing import Final

import yaml

from gpuserve_embedded.cluster.layout import LOOPBACK, PODS_REGISTRY, REGISTRY, STATE, registry_data
from gpuserve_embedded.cluster.processes import Daemon, url_answers

_CONFIG: Final = STATE / "registry.yaml"
_PODS_CONFIG: Final = STATE / "registry-pods.yaml"
_ADDRESS: Final = f"{LOOPBACK}:{REGISTRY.rpartition(':')[2]}"


def configure() -> None:
    """Write the registry's configuration; its data lies in the cache, so that images outlive the cluster."""
    data = registry_data()
    data.mkdir(parents=True, exist_ok=True)
    STATE.mkdir(parents=True, exist_ok=True)
    _CONFIG.write_text(yaml.safe_dump(config(data), sort_keys=False))
    _PODS_CONFIG.write_text(yaml.safe_dump(config(data, PODS_REGISTRY), sort_keys=False))


def config(data: Path, address: str = _ADDRESS) -> dict[str, object]:
    """Return the registry's configuration (distribution 2.8, ``configuration.md``).

    Args:
        data: where everything lies; several registries may share it, and each finishes the uploads that it began.
        address: where it listens.
    """
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            # Of the one on loopback alone: what one deletes the other would still remember.
            **({"cache": {"blobdescriptor": "inmemory"}} if address == _ADDRESS else {}),
            "delete": {"enabled": True},
        },
        "http": {"addr": address},
    }


def daemons() -> tuple[Daemon, Daemon]:
    """Return how the registry is started, on loopback and for pods; the bridge must be there."""
    return _daemon("registry", _CONFIG, _ADDRESS), _daemon("registry-pods", _PODS_CONFIG, PODS_REGISTRY)


def _daemon(name: str, config: Path, address: str) -> Daemon:
    return Daemon(
        name,
        ["docker-registry", "serve", config],
        is_healthy=url_answers(f"http://{address}/v2/"),
    )
