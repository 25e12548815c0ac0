"""etcd, the API server, the controller manager and the scheduler."""

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.layout import (
    API_SERVER,
    CLUSTER_DOMAIN,
    ETCD_CLIENT,
    ETCD_PEER,
    LOOPBACK,
    NODE_IP,
    PKI,
    PODS,
    SERVICES,
    STATE,
)
from gpuserve_embedded.cluster.pki import kubeconfig_of
from gpuserve_embedded.cluster.processes import Daemon, search_path, url_answers

_ETCD: Final = f"https://{LOOPBACK}:{ETCD_CLIENT.number}"
_ETCD_PEER: Final = f"https://{LOOPBACK}:{ETCD_PEER.number}"
_ADMIN: Final = (PKI / "admin.crt", PKI / "admin.key")


def etcd() -> Daemon:
    """Return how etcd is started: clients and peers on loopback, both only with a certificate."""
    options: dict[str, object] = {
        "name": "gpuserve",
        "data-dir": STATE / "etcd",
        "listen-client-urls": _ETCD,
        "advertise-client-urls": _ETCD,
        "listen-peer-urls": _ETCD_PEER,
        "initial-advertise-peer-urls": _ETCD_PEER,
        "initial-cluster": f"gpuserve={_ETCD_PEER}",
        "client-cert-auth": "true",
        "trusted-ca-file": PKI / "etcd-ca.crt",
        "cert-file": PKI / "etcd.crt",
        "key-file": PKI / "etcd.key",
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": PKI / "etcd-ca.crt",
        "peer-cert-file": PKI / "etcd.crt",
        "peer-key-file": PKI / "etcd.key",
    }
    if _etcd_can_skip_fsync():
        # The cluster is made anew after a crash anyway, so durability buys nothing; without it a write takes a tenth.
        options["unsafe-no-fsync"] = "true"
    return Daemon(
        "etcd",
        ["etcd", *_flags(options)],
        is_healthy=url_answers(
            f"{_ETCD}/health",
            ca=PKI / "etcd-ca.crt",
            certificate=(PKI / "etcd-client.crt", PKI / "etcd-client.key"),
        ),
    )


def api_server(kube: Path) -> Daemon:
    """Return how kube-apiserver is started; it listens on the pod bridge alone, where pods and this machine reach it.

    Args:
        kube: the program that holds all of Kubernetes.
    """
    options: dict[str, object] = {
        "advertise-address": NODE_IP,
        "bind-address": NODE_IP,
        "secure-port": API_SERVER.rpartition(":")[2],
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "client-ca-file": PKI / "ca.crt",
        "tls-cert-file": PKI / "apiserver.crt",
        "tls-private-key-file": PKI / "apiserver.key",
        "etcd-servers": _ETCD,
        "etcd-cafile": PKI / "etcd-ca.crt",
        "etcd-certfile": PKI / "etcd-client.crt",
        "etcd-keyfile": PKI / "etcd-client.key",
        "kubelet-certificate-authority": PKI / "ca.crt",
        "kubelet-client-certificate": PKI / "apiserver-kubelet-client.crt",
        "kubelet-client-key": PKI / "apiserver-kubelet-client.key",
        # The node's name is in no DNS: logs and exec have to use its address.
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "service-account-key-file": PKI / "service-accounts.pub",
        "service-account-signing-key-file": PKI / "service-accounts.key",
        "service-cluster-ip-range": SERVICES,
        "requestheader-client-ca-file": PKI / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": PKI / "front-proxy-client.crt",
        "proxy-client-key-file": PKI / "front-proxy-client.key",
        "enable-aggregator-routing": "true",
        "profiling": "false",
    }
    return Daemon(
        "kube-apiserver",
        [kube, "kube-apiserver", *_flags(options)],
        is_healthy=url_answers(f"{API_SERVER}/readyz", ca=PKI / "ca.crt", certificate=_ADMIN),
    )


def controller_manager(kube: Path) -> Daemon:
    """Return how kube-controller-manager is started.

    The horizontal pod autoscaler looks every 5 s instead of 15 s: one node can afford it, and people watch it.
    """
    config = kubeconfig_of("controller-manager")
    options: dict[str, object] = {
        "bind-address": LOOPBACK,
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "leader-elect": "false",
        "tls-cert-file": PKI / "controller-manager.crt",
        "tls-private-key-file": PKI / "controller-manager.key",
        "root-ca-file": PKI / "ca.crt",
        "service-account-private-key-file": PKI / "service-accounts.key",
        "use-service-account-credentials": "true",
        "cluster-cidr": PODS,
        "service-cluster-ip-range": SERVICES,
        "horizontal-pod-autoscaler-sync-period": "5s",
        # Each of its controllers asks for a token first; at the default rate that alone takes seconds.
        "kube-api-qps": "200",
        "kube-api-burst": "400",
        "profiling": "false",
    }
    return Daemon(
        "kube-controller-manager",
        [kube, "kube-controller-manager", *_flags(options)],
        is_healthy=url_answers(f"https://{LOOPBACK}:10257/healthz", ca=PKI / "ca.crt"),
    )


def scheduler(kube: Path) -> Daemon:
    """Return how kube-scheduler is started."""
    config = kubeconfig_of("scheduler")
    options: dict[str, object] = {
        "bind-address": LOOPBACK,
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "leader-elect": "false",
        "tls-cert-file": PKI / "scheduler.crt",
        "tls-private-key-file": PKI / "scheduler.key",
        "profiling": "false",
    }
    return Daemon(
        "kube-scheduler",
        [kube, "kube-scheduler", *_flags(options)],
        is_healthy=url_answers(f"https://{LOOPBACK}:10259/livez", ca=PKI / "ca.crt"),
    )


def _flags(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _etcd_can_skip_fsync() -> bool:
    """Return whether the installed etcd knows the flag (its help does not list it): Debian 12's 3.4 does, Ubuntu 22.04's 3.3 not."""
    # A bare machine has none yet when it is first asked whether its daemons serve.
    program = shutil.which("etcd", path=search_path())
    return program is not None and _knows_no_fsync(program)


@cache
def _knows_no_fsync(program: str) -> bool:
    asked = subprocess.run([program, "--unsafe-no-fsync", "--version"], capture_output=True, check=False)
    return asked.returncode == 0
