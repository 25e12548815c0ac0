"""How the end-to-end tests look at the cluster: through kubectl and the pods' own metrics, as a person would."""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import requests

ROOT = Path(__file__).parents[2]
NAMESPACE = "gpuserve-local"
SERVICE = "filetype"
VERSIONS = ("fp32", "int8")
SUCCESSES = "nv_inference_request_success"
GPUS = "nvidia.com/gpu"

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], *, seconds: float, every: float = 0.5) -> T:
    """Return the first truthy answer of `probe`, or fail with what was awaited and the last answer."""
    end = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {answer!r}")
        time.sleep(every)


def run(
    command: Sequence[str | Path],
    variables: dict[str, str] | None = None,
    *,
    cwd: Path = ROOT,
    stdin: str | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with `variables` over this process's own, and return what it said, whatever its status.

    What it leaves among its temporary files goes with it (the Kubernetes provider leaves a kubeconfig with each run), unless the
    variables say where to: daemons that it starts outlive it.
    """
    with tempfile.TemporaryDirectory(prefix="gpuserve-e2e-", ignore_cleanup_errors=True) as temporary:
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, "TMPDIR": temporary, **(variables or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


class Cluster:
    """The cluster behind the stack, with the environment that `make up` wrote for people."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        done = run(["kubectl", *arguments], self.variables, stdin=stdin)
        assert done.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    def get(self, *arguments: str) -> Any:
        """Return one object or a list's items."""
        answer = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer["items"] if answer["kind"] == "List" else answer

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def pods(self, version: str, *, leaving: bool = False) -> list[dict[str, Any]]:
        """Return the version's pods; those on their way out only where they are asked for."""
        labels = f"gpuserve.io/service={SERVICE},gpuserve.io/version={version}"
        pods = self.get("pods", "-n", NAMESPACE, "-l", labels)
        return [pod for pod in pods if leaving or "deletionTimestamp" not in pod["metadata"]]

    def replicas(self, version: str) -> int:
        """Return how many replicas of the version are ready."""
        deployment = self.get("deployment", f"{SERVICE}-{version}", "-n", NAMESPACE)
        return int(deployment["status"].get("readyReplicas", 0))

    def settled(self) -> bool:
        """Tell whether each version has exactly one pod and it is ready; one on its way out counts too, as the quota counts it."""
        return all(len(self.pods(version, leaving=True)) == 1 and self.replicas(version) == 1 for version in VERSIONS)

    def address(self, version: str) -> str:
        """Return the base URL of the version's own Service."""
        return f"http://{self.endpoint(version, 'http')}"

    def endpoint(self, version: str, port_name: str) -> str:
        """Return address and port of the version's own Service."""
        service = self.get("service", f"{SERVICE}-{version}", "-n", NAMESPACE)
        (port,) = [port["port"] for port in service["spec"]["ports"] if port["name"] == port_name]
        return f"{service['spec']['clusterIP']}:{port}"

    def successes(self, version: str) -> int:
        """Return how many requests the version's pods have answered, by Triton's own count."""
        total = 0
        for pod in self.pods(version):
            text = requests.get(f"http://{pod['status']['podIP']}:8002/metrics", timeout=10).text
            values = re.findall(rf"^{SUCCESSES}\{{[^}}]*\}} (\d+)", text, flags=re.MULTILINE)
            total += sum(int(value) for value in values)
        return total


def holder(cluster: Cluster, name: str, gpus: int) -> dict[str, Any]:
    """Return a pod that does nothing but hold GPUs, as hardened as the namespace demands."""
    pause = cluster.get("pods", "-n", NAMESPACE)[0]["spec"]["containers"][0]["image"]
    container = {
        "name": "holder",
        "image": pause,
        "command": ["sleep", "infinity"],
        "resources": {"limits": {GPUS: str(gpus)}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "containers": [container],
        "securityContext": security,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
