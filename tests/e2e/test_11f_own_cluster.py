"""A cluster of the user's own: `up` builds no tool and starts nothing on this machine, and `down` takes the stack alone away.

The cluster is the embedded one, known by a kubeconfig that lies elsewhere.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e_cluster import ROOT, Cluster, wait_for
from e2e_stack import Stack, Workshop, command

from gpuserve_embedded.cluster.layout import KUBECONFIG, PIDS
from gpuserve_embedded.tools import ensure

pytestmark = pytest.mark.e2e

NAME = "own"
NAMESPACE = f"gpuserve-{NAME}"


@dataclass(frozen=True)
class Own:
    """A checkout, and the environment of somebody who has a cluster, a backend and Pulumi's programs."""

    workshop: Workshop
    variables: dict[str, str]
    cache: Path
    temporary: Path

    def run(self, name: str, *arguments: str):
        """Run `up` or `down` to a good end, and return what it said."""
        done = command(name, "--stack", NAME, *arguments, cwd=self.workshop.folder, variables=self.variables, timeout=600)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture
def own(stack: Stack, workshop: Workshop, tmp_path: Path) -> Iterator[Own]:
    provider = ensure("pulumi-resource-kubernetes", print)
    kubeconfig, cache, temporary = tmp_path / "kubeconfig", tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    shutil.copy(KUBECONFIG, kubeconfig)
    # With an empty cache, whatever is built or fetched shows; Pulumi's programs are on the path.
    variables = {
        "PATH": os.pathsep.join([str(ROOT / ".gpuserve" / "bin"), str(provider.parent), os.environ["PATH"]]),
        "KUBECONFIG": str(kubeconfig),
        "PULUMI_BACKEND_URL": workshop.variables["PULUMI_BACKEND_URL"],
        "PULUMI_CONFIG_PASSPHRASE": "of their own",
        "PULUMI_HOME": str(tmp_path / "pulumi"),
        "XDG_CACHE_HOME": str(cache),
        "TMPDIR": str(temporary),
    }
    workshop.write_stack(NAME, gateway_networks=["10.244.0.1/32"])
    yield Own(workshop, variables, cache, temporary)
    stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")


def test_up_and_down_leave_this_machine_alone(stack: Stack, own: Own, unprepared: Path):
    before = _daemons()
    up = own.run("up", "--json", "--file", str(unprepared))
    answer = json.loads(up.stdout)
    assert answer["prediction"].startswith("csv ")
    assert answer["prometheus"] is None
    assert "Cluster: yours" in up.stderr
    assert _daemons() == before != {}
    assert list(own.cache.glob("gpuserve/tools/*.log")) == []  # which each build writes
    assert not (own.workshop.folder / ".gpuserve" / "bin" / "kubectl").exists()
    assert NAMESPACE in _namespaces(stack.cluster)

    own.run("down")
    wait_for("the stack's namespace is gone", lambda: NAMESPACE not in _namespaces(stack.cluster), seconds=60)
    assert _daemons() == before
    assert stack.cluster.settled()
    # Where the Kubernetes provider leaves a kubeconfig.
    left = [*own.temporary.iterdir(), *(own.workshop.folder / ".gpuserve" / "temporary").iterdir()]
    assert left == []


def _daemons() -> dict[str, str]:
    """Return the process id, start time and boot of each of the cluster's daemons."""
    return {path.name: path.read_text() for path in PIDS.iterdir()}


def _namespaces(cluster: Cluster) -> set[str]:
    return {found["metadata"]["name"] for found in cluster.get("namespaces")}
