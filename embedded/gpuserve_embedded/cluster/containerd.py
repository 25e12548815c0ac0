"""A containerd of the cluster's own, new enough for image volumes; a containerd of the machine is not touched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import CNI_PLUGINS, CONTAINERD_SOCKET, REGISTRY, RUN, STATE
from gpuserve_embedded.cluster.network import CNI_CONFIG
from gpuserve_embedded.cluster.processes import Daemon, run

PROGRAMS: Final = ("containerd", "containerd-shim-runc-v2", "ctr")
"""The tools that ``configure`` needs."""

ROOT: Final = STATE / "containerd"
_BIN: Final = ROOT / "bin"
_RUN: Final = RUN / "containerd"
_CONFIG: Final = ROOT / "config.toml"
_REGISTRIES: Final = ROOT / "registries"
NAMESPACE: Final = "k8s.io"
"""The namespace in which the kubelet's interface keeps images and containers (fixed in containerd's CRI plugin)."""


def configure(programs: Mapping[str, Path], sandbox_image: str) -> None:
    """Write containerd's configuration, and put its programs where it and people find them.

    Args:
        programs: the file of each of ``PROGRAMS``, by name.
        sandbox_image: reference of the image whose process holds a pod's namespaces.
    """
    _REGISTRIES.joinpath(REGISTRY).mkdir(parents=True, exist_ok=True)
    (_REGISTRIES / REGISTRY / "hosts.toml").write_text(
        f'server = "http://{REGISTRY}"\n\n[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    _CONFIG.write_text(config(sandbox_image))
    _BIN.mkdir(exist_ok=True)
    for name in PROGRAMS:
        (_BIN / name).unlink(missing_ok=True)
        (_BIN / name).symlink_to(programs[name])


def config(sandbox_image: str) -> str:
    """Return containerd's configuration file (version 4, which containerd 2.3 and later write themselves)."""
    return f"""\
version = 4
root = "{ROOT}/data"
state = "{_RUN}/state"
temp = "{ROOT}/temporary"
# Of no use here, and each would write outside the folders above or complain in the log.
disabled_plugins = [
  "io.containerd.image-verifier.v1.bindir",
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs",
]

[plugins."io.containerd.server.v1.grpc"]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.server.v1.ttrpc"]
  address = "{CONTAINERD_SOCKET}.ttrpc"

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = "{_RUN}/shims"  # by default one that all containerds of a machine share

[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{sandbox_image}"

  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{_REGISTRIES}"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true        # a machine may forbid root to lower it
  netns_mounts_under_state_dir = true  # so that clean-up finds them

  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{CNI_PLUGINS}"]
    conf_dir = "{CNI_CONFIG}"

  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{_BIN}/containerd-shim-runc-v2"  # a name would be looked for on PATH first

    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      Root = "{RUN}/runc"
      SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
"""


def daemon() -> Daemon:
    """Return how containerd is started; it is healthy once its socket answers."""
    return Daemon(
        "containerd",
        [_BIN / "containerd", "--config", _CONFIG, "--log-level", "info"],
        is_healthy=_answers,
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


def _ctr() -> list[str | Path]:
    return [_BIN / "ctr", "--address", CONTAINERD_SOCKET]


def _answers() -> bool:
    if not CONTAINERD_SOCKET.exists():
        return False
    try:
        run("ask containerd", [*_ctr(), "--connect-timeout", "5s", "version"], fix="wait")
    except ClusterError:
        return False
    return True
