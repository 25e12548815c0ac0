"""The node: the kubelet and kube-proxy."""

from pathlib import Path
from typing import Final

import yaml

from gpuserve_embedded.cluster.layout import (
    CGROUP,
    CLUSTER_DOMAIN,
    CONTAINERD_SOCKET,
    DNS_IP,
    LOOPBACK,
    NODE,
    NODE_IP,
    PKI,
    PODS,
    STATE,
)
from gpuserve_embedded.cluster.pki import kubeconfig_of
from gpuserve_embedded.cluster.processes import Daemon, url_answers

KUBELET_ROOT: Final = STATE / "kubelet"
_KUBELET_CONFIG: Final = STATE / "kubelet.yaml"
_PROXY_CONFIG: Final = STATE / "kube-proxy.yaml"
# systemd-resolved's own file comes first: the other only names systemd-resolved then.
_HOST_DNS: Final = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
_NO_DNS: Final = STATE / "resolv.conf"


def configure() -> None:
    """Write the configuration files of kubelet and kube-proxy."""
    # Nobody listens at the node's port 53: who asks for a name outside of the cluster is refused at once.
    _NO_DNS.write_text(f"nameserver {NODE_IP}\n")
    _KUBELET_CONFIG.write_text(yaml.safe_dump(kubelet_config(), sort_keys=False))
    _PROXY_CONFIG.write_text(yaml.safe_dump(kube_proxy_config(), sort_keys=False))


def kubelet(kube: Path) -> Daemon:
    """Return how the kubelet is started: its node address is the pod bridge's, for it refuses a loopback address."""
    return Daemon(
        "kubelet",
        [
            kube,
            "kubelet",
            f"--config={_KUBELET_CONFIG}",
            f"--kubeconfig={kubeconfig_of('kubelet')}",
            f"--root-dir={KUBELET_ROOT}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}",
        ],
        is_healthy=url_answers(f"http://{LOOPBACK}:10248/healthz"),
    )


def kube_proxy(kube: Path) -> Daemon:
    """Return how kube-proxy is started."""
    return Daemon(
        "kube-proxy",
        [kube, "kube-proxy", f"--config={_PROXY_CONFIG}"],
        is_healthy=url_answers(f"http://{LOOPBACK}:10256/livez"),
    )


def kubelet_config() -> dict[str, object]:
    """Return the kubelet's configuration (``kubelet.config.k8s.io/v1beta1``)."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(NODE_IP),
        "healthzBindAddress": str(LOOPBACK),
        "tlsCertFile": str(PKI / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(PKI / "kubelet-server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(STATE / "pod-logs"),
        "volumePluginDir": str(STATE / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # a machine may forbid root to lower it
        "makeIPTablesUtilChains": False,
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [str(DNS_IP)],
        "resolvConf": str(next(filter(_helps_pods, _HOST_DNS), _NO_DNS)),
        # A developer's disk is often nearly full; evicting the cluster for that helps nobody.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        # The simulated GPUs are known within a second of their registration, instead of ten.
        "nodeStatusUpdateFrequency": "1s",
        # Changes of ConfigMaps and Secrets reach their volumes within seconds instead of a minute.
        "syncFrequency": "3s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": "15s"},
    }


def _helps_pods(file: Path) -> bool:
    """Tell whether a machine's file names a server that is not the machine's own loopback, which in a pod is the pod.

    Without any server neither a pod nor CoreDNS would start.
    """
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return False
    return any(
        words[0] == "nameserver" and not words[1].startswith(("127.", "::1")) for words in map(str.split, lines) if words[1:]
    )


def kube_proxy_config() -> dict[str, object]:
    """Return kube-proxy's configuration (``kubeproxy.config.k8s.io/v1alpha1``)."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig_of("kube-proxy"))},
        "clusterCIDR": str(PODS),
        "hostnameOverride": NODE,
        "healthzBindAddress": f"{LOOPBACK}:10256",
        "metricsBindAddress": f"{LOOPBACK}:10249",
        # Zero leaves the machine's own limits on connection tracking as they are.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nftables": {"minSyncPeriod": "200ms"},
    }
