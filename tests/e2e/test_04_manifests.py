"""Every manifest of every stack is one that a real API server takes, with the real definitions of custom resources."""

import json
from collections.abc import Iterator

import pytest
from e2e_cluster import ROOT, Cluster, run
from e2e_stack import Stack

from gpuserve.cli.stack import open_stack
from gpuserve.platform.load import stack_names

pytestmark = pytest.mark.e2e

STACKS = ROOT / "stacks"


@pytest.fixture
def namespaces(stack: Stack) -> Iterator[None]:
    """The namespaces that the stacks' objects are in: a dry run creates none, and without them it says nothing."""
    wanted = {
        manifest["metadata"].get("namespace")
        for name in stack_names(STACKS)
        for manifest in open_stack(name, STACKS).manifests()
    } - {None}
    present = {found["metadata"]["name"] for found in stack.cluster.get("namespaces")}
    made = sorted(wanted - present)
    stack.cluster.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in made))
    yield
    if made:
        stack.cluster.kubectl("delete", "namespace", *made, "--wait=true")


@pytest.mark.usefixtures("namespaces")
def test_the_api_server_takes_every_manifest_of_every_stack(stack: Stack):
    refused: dict[str, str] = {}
    for name in stack_names(STACKS):
        rendered = run([ROOT / ".venv/bin/gpuserve", "render", "-s", name], stack.variables)
        assert rendered.returncode == 0, rendered.stderr
        said = _dry_run(stack.cluster, rendered.stdout)
        if said:
            refused[name] = said
    assert refused == {}


def test_a_manifest_with_a_wrong_field_is_refused(stack: Stack):
    """The check above can fail."""
    wrong = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "wrong", "namespace": "default"},
        "spec": {"hosts": ["x"]},
    }
    assert "hosts" in _dry_run(stack.cluster, json.dumps(wrong))


def _dry_run(cluster: Cluster, text: str) -> str:
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"]
    done = run(apply, cluster.variables, stdin=text)
    return "" if done.returncode == 0 else done.stderr
