"""A containerd of the cluster's own; a containerd of the machine is not touched."""

from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import CNI_PLUGINS, CONTAINERD_SOCKET, REGISTRY, RUN, STATE
from gpuserve_embedded.cluster.network import CNI_CONFIG
from gpuserve_embedded.cluster.processes import Daemon, run

ROOT: Final = STATE / "containerd"
_RUN: Final = RUN / "containerd"
_CONFIG: Final = ROOT / "config.toml"
_REGISTRIES: Final = ROOT / "registries"
NAMESPACE: Final = "k8s.io"
"""The namespace in which the kubelet's interface keeps images and containers (fixed in containerd's CRI plugin)."""


def configure(sandbox_image: str) -> None:
    """Write containerd's configuration.

    Args:
        sandbox_image: reference of the image whose process holds a pod's namespaces.
    """
    _REGISTRIES.joinpath(REGISTRY).mkdir(parents=True, exist_ok=True)
    (_REGISTRIES / REGISTRY / "hosts.toml").write_text(
        f'server = "http://{REGISTRY}"\n\n[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    _CONFIG.write_text(config(sandbox_image))


def config(sandbox_image: str) -> str:
    """Return containerd's configuration file (version 2, which containerd 1.6, 1.7 and 2.x read)."""
    return f"""\
version = 2
root = "{ROOT}/data"
state = "{_RUN}/state"
# Of no use here, and each would write outside the folders above or complain in the log.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  restrict_oom_score_adj = true        # a machine may forbid root to lower it
  netns_mounts_under_state_dir = true  # so that clean-up finds them
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{CNI_CONFIG}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{RUN}/runc"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{_REGISTRIES}"
"""


def daemon() -> Daemon:
    """Return how containerd is started; it is healthy once its socket answers."""
    return Daemon(
        "containerd",
        ["containerd", "--config", _CONFIG, "--log-level", "info"],
        is_healthy=_answers,
        timeout_seconds=30,
    )


def pull(reference: str) -> None:
    """Pull and unpack an image ahead of the pod that wants it.

    Raises:
        ClusterError: the registry lacks it, or containerd does not answer.
    """
    run(
        "pull an image",
        [*_ctr(), "--namespace", NAMESPACE, "images", "pull", "--hosts-dir", _REGISTRIES, reference],
        fix="see the logs of registry and containerd in /var/lib/gpuserve/logs",
    )


def shim_sockets() -> list[Path]:
    """Return the sockets of the cluster's containers in /run/containerd/s, where every containerd puts them.

    Each bundle notes its own (``address``), which is how they are told from those of another containerd.
    """
    notes = (_RUN / "state" / "io.containerd.runtime.v2.task").glob("*/*/address")
    return [Path(note.read_text().strip().removeprefix("unix://")) for note in notes]


def _ctr() -> list[str | Path]:
    return ["ctr", "--address", CONTAINERD_SOCKET]


def _answers() -> bool:
    if not CONTAINERD_SOCKET.exists():
        return False
    try:
        run("ask containerd", [*_ctr(), "--connect-timeout", "1s", "version"], fix="wait")
    except ClusterError:
        return False
    return True
