"""The container registry on loopback."""

from pathlib import Path
from typing import Final

import yaml

from gpuserve_embedded.cluster.layout import LOOPBACK, REGISTRY, STATE, registry_data
from gpuserve_embedded.cluster.processes import Daemon, url_answers

_CONFIG: Final = STATE / "registry.yaml"


def configure() -> None:
    """Write the registry's configuration; its data lies in the cache, so that images outlive the cluster."""
    data = registry_data()
    data.mkdir(parents=True, exist_ok=True)
    STATE.mkdir(parents=True, exist_ok=True)
    _CONFIG.write_text(yaml.safe_dump(config(data), sort_keys=False))


def config(data: Path) -> dict[str, object]:
    """Return the registry's configuration (distribution 2.8, ``configuration.md``)."""
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "cache": {"blobdescriptor": "inmemory"},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"{LOOPBACK}:{REGISTRY.rpartition(':')[2]}"},
    }


def daemon() -> Daemon:
    """Return how the registry is started."""
    return Daemon(
        "registry",
        ["docker-registry", "serve", _CONFIG],
        is_healthy=url_answers(f"http://{LOOPBACK}:{REGISTRY.rpartition(':')[2]}/v2/"),
        timeout_seconds=30,
    )
