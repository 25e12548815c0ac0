"""The policy pack through Pulumi's own policy host: a violation stops a preview."""

import pytest
from e2e_stack import Workshop

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("stack")]

PROGRAM = """
import pulumi_kubernetes as k8s

labels = {"app": "wrong"}
container = {
    "name": "server",
    "image": "registry.example.com/model:latest",
    "resources": {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}},
    "readiness_probe": {"http_get": {"path": "/v2/health/ready", "port": 8000}},
    "liveness_probe": {"http_get": {"path": "/v2/health/live", "port": 8000}},
    "startup_probe": {"http_get": {"path": "/v2/health/ready", "port": 8000}},
}
#CHANGE#
k8s.apps.v1.Deployment(
    "wrong",
    metadata={"name": "wrong", "namespace": "default"},
    spec={"selector": {"match_labels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
)
"""
DIGEST = 'container["image"] = "registry.example.com/model@sha256:' + "0" * 64 + '"'


def _preview(workshop: Workshop, change: str):
    (workshop.folder / "__main__.py").write_text(PROGRAM.replace("#CHANGE#", change))
    workshop.stack_file("policy").write_text("config: {}\n")
    created = workshop.pulumi("stack", "select", "--create", "policy")
    assert created.returncode == 0, created.stderr
    return workshop.pulumi("preview", "-s", "policy", "--policy-pack", "policies")


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        ("", "image-digest", "model:latest"),
        (f"{DIGEST}; del container['readiness_probe']", "probes", "readinessProbe"),
        (f"{DIGEST}; container['resources']['limits'] = {{'cpu': '1'}}", "gpu-limits", "nvidia.com/gpu"),
    ],
)
def test_a_violation_stops_the_preview(workshop: Workshop, change: str, rule: str, says: str):
    done = _preview(workshop, change)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert rule in said
    assert says in said
    assert "mandatory" in said


def test_a_program_that_keeps_the_rules_passes(workshop: Workshop):
    done = _preview(workshop, DIGEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 to create" in done.stdout or "to create" in done.stdout
