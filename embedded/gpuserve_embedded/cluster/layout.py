"""Where everything of the embedded cluster lies: folders, addresses, ports and names, said once."""

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

STATE: Final = Path("/var/lib/gpuserve")
"""Everything that lives as long as the cluster: etcd's data, containers, certificates, logs. Removed by ``stop``."""

RUN: Final = Path("/run/gpuserve")
"""Sockets, mounts and address leases, on a file system that a reboot empties. Removed by ``stop``."""

LOCK: Final = RUN.with_suffix(".lock")
"""Held by whoever starts or stops the cluster: one for the machine, beside what ``stop`` removes. A reboot removes it."""

LOGS: Final = STATE / "logs"
TEMPORARY: Final = STATE / "tmp"
"""Temporary files of what works on the cluster: they go with it, also those of a program that was killed."""

PIDS: Final = STATE / "pids"
PKI: Final = STATE / "pki"
KUBECONFIG: Final = STATE / "kubeconfig"
"""The administrator's kubeconfig, mode 0600."""

JOURNAL: Final = STATE / "before.json"
"""What this machine's settings were before ``start`` changed them; ``stop`` puts them back."""

CONTAINERD_SOCKET: Final = RUN / "containerd" / "containerd.sock"
DEVICE_PLUGINS: Final = Path("/var/lib/kubelet/device-plugins")
"""Fixed in the kubelet's source (``pluginapi.DevicePluginPath``), whatever its root folder is."""

CONTAINER_LOG_LINKS: Final = Path("/var/log/containers")
"""Fixed in the kubelet's source (``DefaultContainerLogsDir``): a symbolic link per container."""

CNI_PLUGINS: Final = Path("/usr/lib/cni")
CNI_NETWORK: Final = "gpuserve"
CNI_RESULTS: Final = Path("/var/lib/cni/results")
"""Fixed in libcni (``CacheDir``): one file per attached container, named after the network."""

NODE: Final = "gpuserve-local"
BRIDGE: Final = "gpuserve0"
NFT_TABLE: Final = "gpuserve"
CGROUP: Final = "gpuserve"
"""Every process of the cluster, daemons and containers, is below this control group: that is how they are found."""

PODS: Final = IPv4Network("10.244.0.0/16")
NODE_IP: Final = IPv4Address("10.244.0.1")
SERVICES: Final = IPv4Network("10.96.0.0/16")
KUBERNETES_IP: Final = IPv4Address("10.96.0.1")
DNS_IP: Final = IPv4Address("10.96.0.10")
PROMETHEUS_IP: Final = IPv4Address("10.96.0.90")
LOOPBACK: Final = IPv4Address("127.0.0.1")
CLUSTER_DOMAIN: Final = "cluster.local"

REGISTRY: Final = "localhost:5000"
PODS_REGISTRY: Final = f"{NODE_IP}:5000"
"""Where pods reach the same registry: this machine's loopback is not theirs."""

API_SERVER: Final = f"https://{NODE_IP}:6443"
GATEWAY_HTTP: Final = f"http://{LOOPBACK}:8080"
GATEWAY_HTTPS: Final = f"https://{LOOPBACK}:8443"
PROMETHEUS: Final = f"http://{PROMETHEUS_IP}:9090"

SIMULATED_GPUS: Final = 8


@dataclass(frozen=True)
class Port:
    """A TCP port that the cluster listens on."""

    number: int
    owner: str
    """The program that listens, as the user sees it in an error."""
    address: IPv4Address = LOOPBACK


ETCD_CLIENT: Final = Port(12379, "etcd")
ETCD_PEER: Final = Port(12380, "etcd (peers)")

PORTS: Final = (
    Port(5000, "registry"),
    Port(5000, "registry (for pods)", NODE_IP),
    ETCD_CLIENT,
    ETCD_PEER,
    Port(6443, "kube-apiserver", NODE_IP),
    Port(10257, "kube-controller-manager"),
    Port(10259, "kube-scheduler"),
    Port(10248, "kubelet (health)"),
    Port(10250, "kubelet", NODE_IP),
    Port(10256, "kube-proxy (health)"),
    Port(10249, "kube-proxy (metrics)"),
    Port(8080, "gateway (HTTP)"),
    Port(8443, "gateway (HTTPS)"),
    Port(9180, "gateway (metrics)", NODE_IP),
)


def cache_folder() -> Path:
    """Return the folder of what outlives the cluster: ``$XDG_CACHE_HOME/gpuserve``, by default ``~/.cache/gpuserve``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gpuserve"


def registry_data() -> Path:
    """Return the registry's folder, a cache: a warm start then has no image to push."""
    return cache_folder() / "registry"
