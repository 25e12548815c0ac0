"""The embedded cluster starts, serves, survives being killed at any point, and leaves nothing behind.

These tests start and stop the machine's one cluster, so they run before or after those that use it, never between.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from e2e_machine import mounts

from gpuserve_embedded import cluster, tools
from gpuserve_embedded.cluster import cgroups, cleanup, layout, processes
from gpuserve_embedded.cluster.api import Api

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="containers and bridges need root")]

NAMESPACE = "lifecycle-test"
SETTINGS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def machine() -> dict[str, Any]:
    """What of this machine the cluster changes while it runs."""

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()

    return {
        "settings": {name: Path("/proc/sys", name).read_text() for name in SETTINGS},
        "tables": lines("nft", "list", "tables"),
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": lines("ip", "route"),
        "mounts": sorted(mounts()),
        "names": Path("/etc/resolv.conf").read_text(),
        "folders": [path for path in ("/var/lib/kubelet", "/var/log/containers", "/var/lib/cni") if Path(path).exists()],
    }


def eventually(check: Callable[[], Any], *, seconds: float) -> Any:
    """Return the first true answer of a check, or fail with its last one."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds:g} s"
        time.sleep(0.2)
    return answer


@pytest.fixture(scope="module")
def before() -> Iterator[dict[str, Any]]:
    """The machine without a cluster; afterwards there is none either."""
    cluster.stop()
    yield machine()
    cluster.stop()


@pytest.fixture(scope="module")
def running(before) -> cluster.ClusterStatus:
    cluster.start(print)
    return cluster.status()


@pytest.fixture(scope="module")
def api(running) -> Api:
    found = Api()
    found.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    return found


def pod_of(name: str, image: str, **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, **container}],
        },
    }


def idle_image(api: Api) -> str:
    """Return an image that runs for ever: the device plugin, which looks for a kubelet until it finds one."""
    plugin = api.get("/apis/apps/v1/namespaces/kube-system/daemonsets/simulated-gpus")
    assert plugin
    return plugin["spec"]["template"]["spec"]["containers"][0]["image"]


def test_every_part_serves_and_the_node_has_eight_gpus(running) -> None:
    assert running.wanting is None
    assert all(daemon.serves for daemon in running.daemons)
    assert running.gpus == layout.SIMULATED_GPUS
    assert {pod.namespace for pod in running.pods} == {"kube-system", "gateway-system", "monitoring"}
    assert all(pod.ready for pod in running.pods)


def test_a_second_start_changes_nothing(running) -> None:
    cluster.start(print)
    assert [daemon.pid for daemon in cluster.status().daemons] == [daemon.pid for daemon in running.daemons]


def test_a_pod_gets_the_gpus_it_asks_for_and_no_more_than_there_are(api) -> None:
    image = idle_image(api)
    for name, gpus in (("two-gpus", 2), ("too-many-gpus", layout.SIMULATED_GPUS)):
        pod = pod_of(name, image, args=["--device-plugin-dir=/nowhere"], resources={"limits": {"nvidia.com/gpu": gpus}})
        api.apply([pod])
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"

    def phase(name: str) -> str:
        return (api.get(f"{pods}/{name}") or {})["status"]["phase"]

    eventually(lambda: phase("two-gpus") == "Running", seconds=30)
    refused = api.get(f"{pods}/too-many-gpus")
    assert refused
    assert refused["status"]["phase"] == "Pending"
    assert "Insufficient nvidia.com/gpu" in json.dumps(refused["status"])
    (pid,) = [pid for pid, command in cgroups.processes().items() if "/nowhere" in command]
    variables = dict(entry.split("=", 1) for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry)
    assert len(variables["NVIDIA_VISIBLE_DEVICES"].split(",")) == 2
    logs = [tools.ensure("kubectl", print), "--kubeconfig", cluster.KUBECONFIG, "--namespace", NAMESPACE, "logs", "two-gpus"]
    assert "no kubelet yet" in subprocess.run(logs, capture_output=True, text=True, check=True).stdout


def mount_an_image(api: Api) -> list[Path]:
    """Run a pod with an image volume, look into it, and return where the machine has it mounted."""
    image = idle_image(api)
    pod = pod_of("image-volume", image, args=["--device-plugin-dir=/image/nowhere"])
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "image", "mountPath": "/image", "readOnly": True}]
    pod["spec"]["volumes"] = [{"name": "image", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
    api.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, account, pod])

    def inside() -> list[int]:
        commands = cgroups.processes().items()
        return [pid for pid, command in commands if command.startswith("/simulated-gpus") and "/image/" in command]

    (pid,) = eventually(inside, seconds=30)
    assert Path(f"/proc/{pid}/root/image/simulated-gpus").is_file()
    return image_mounts()


def image_mounts() -> list[Path]:
    return [path for path in cleanup.mounts() if "image-volumes" in path.parts]


def test_a_pod_mounts_an_image_as_a_volume(api) -> None:
    assert len(mount_an_image(api)) == 1


def test_service_names_resolve(running) -> None:
    def address_of(name: str) -> str:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(query, (str(layout.DNS_IP), 53))
            answer = client.recv(512)
        assert answer[3] & 0xF == 0, f"no such name: {name}"
        return socket.inet_ntoa(answer[-4:])

    assert address_of("kubernetes.default.svc.cluster.local") == str(layout.KUBERNETES_IP)
    assert address_of("prometheus.monitoring.svc.cluster.local") == str(layout.PROMETHEUS_IP)


def test_the_gateway_routes_by_host(api) -> None:
    gateway: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "test", "namespace": NAMESPACE},
        "spec": {"gatewayClassName": "traefik", "listeners": [{"name": "http", "protocol": "HTTP", "port": 8080}]},
    }
    backend = {"name": "prometheus", "namespace": "monitoring", "port": 9090}
    route: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "test", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": "test"}],
            "hostnames": ["metrics.example.com"],
            "rules": [{"backendRefs": [backend]}],
        },
    }
    grant: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "test", "namespace": "monitoring"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": NAMESPACE}],
            "to": [{"group": "", "kind": "Service"}],
        },
    }
    api.apply([gateway, grant, route])

    def answer(host: str) -> int:
        return requests.get(f"{layout.GATEWAY_HTTP}/-/healthy", headers={"Host": host}, timeout=5).status_code

    eventually(lambda: answer("metrics.example.com") == 200, seconds=20)
    assert answer("other.example.com") == 404
    found = api.get(f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/gateways/test")
    assert found
    assert found["status"]["addresses"] == [{"type": "IPAddress", "value": str(layout.LOOPBACK)}]


def test_a_recorded_series_becomes_a_metric_that_the_autoscaler_reads(api) -> None:
    rules = "groups: [{name: test, rules: [{record: 'gpuserve:queue_seconds', expr: 'up{namespace=\"gateway-system\"}'}]}]"
    api.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "gpuserve-rules", "namespace": "monitoring"},
                "data": {"test.yaml": rules},
            }
        ]
    )
    path = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/gateway-system/pods/*/gpuserve_queue_seconds"

    def items() -> list[Any]:
        return (api.get(path) or {}).get("items", [])

    (metric,) = eventually(items, seconds=60)
    assert metric["value"] == "1"
    assert metric["describedObject"]["name"].startswith("traefik-")


def test_a_daemon_that_died_is_noticed_and_the_next_start_mends_all(running) -> None:
    victim = next(daemon for daemon in cluster.status().daemons if daemon.name == "kube-controller-manager")
    assert victim.pid
    os.kill(victim.pid, signal.SIGKILL)
    eventually(lambda: not cluster.status().ready, seconds=10)
    assert "kube-controller-manager" in (cluster.status().wanting or "")
    cluster.start(print)
    assert cluster.status().ready


def test_everything_killed_at_once_is_mended_by_the_next_start(running) -> None:
    mounted = mount_an_image(Api())
    for pid in cgroups.processes():
        with suppress(ProcessLookupError):  # a container's other processes end with its first
            os.kill(pid, signal.SIGKILL)
    assert image_mounts() == mounted != []
    cluster.start(print)
    assert cluster.status().ready
    assert image_mounts() == []


def test_stop_leaves_the_machine_as_it_was(before) -> None:
    cluster.stop()
    assert cluster.leftovers() == []
    assert machine() == before
    assert cluster.status().wanting == "the cluster is stopped"
    cluster.stop()  # and again is no error


@pytest.mark.parametrize("seconds", [0.8, 1.5, 3, 5, 8])
def test_a_start_that_was_killed_can_be_stopped(before, seconds) -> None:
    killed_start(seconds)
    cluster.stop()
    assert cluster.leftovers() == []
    assert machine() == before


def test_a_start_after_a_killed_start_and_a_killed_stop(before) -> None:
    killed_start(4)
    stopping = subprocess.Popen([sys.executable, "-c", "from gpuserve_embedded import cluster; cluster.stop()"])
    time.sleep(0.7)
    stopping.kill()
    stopping.wait()
    cluster.start(print)
    assert cluster.status().ready
    cluster.stop()
    assert machine() == before


def test_a_port_in_use_is_told_before_anything_is_changed(before) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 8080))
        listener.listen()
        with pytest.raises(cluster.ClusterError, match=rf"8080 \(gateway \(HTTP\)\), held by .*\(pid {os.getpid()}\)"):
            cluster.start(print)
    assert cluster.leftovers() == []
    assert machine() == before


def test_a_daemon_that_cannot_start_shows_its_log(before, monkeypatch) -> None:
    broken = processes.Daemon("etcd", ["etcd", "--data-dir=/proc/nothing"], is_healthy=lambda: False, timeout_seconds=10)
    monkeypatch.setattr("gpuserve_embedded.cluster.control_plane.etcd", lambda: broken)
    with pytest.raises(cluster.ClusterError) as caught:
        cluster.start(print)
    assert "start etcd" in str(caught.value)
    assert "/proc/nothing" in str(caught.value)
    cluster.stop()
    assert machine() == before


def killed_start(seconds: float) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-c", "from gpuserve_embedded import cluster; cluster.start()"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    starting.kill()
    starting.wait()
