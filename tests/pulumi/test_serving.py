"""A server as a component under Pulumi's mocks."""

from typing import Any

import pulumi
import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import Placement
from gpuserve.node_pool.component import GpuNodePool
from gpuserve.serving.component import ServingStack

NAME = "filetype-fp32"
IMAGE = "localhost:5000/models/filetype@sha256:" + "0" * 64
SPEC = {
    "service": "filetype",
    "version": "fp32",
    "model": "filetype",
    "image": IMAGE,
    "placement": Placement(pool="local", namespace="gpuserve-local", simulated=True),
}


def test_children_have_the_provider_s_types_and_stable_names(engine: Any) -> None:
    engine.run(lambda: ServingStack(NAME, SPEC))
    assert engine.types() == {
        NAME: "gpuserve:index:ServingStack",
        f"{NAME}-account": "kubernetes:core/v1:ServiceAccount",
        f"{NAME}-network": "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        f"{NAME}-disruption": "kubernetes:policy/v1:PodDisruptionBudget",
        f"{NAME}-deployment": "kubernetes:apps/v1:Deployment",
        f"{NAME}-service": "kubernetes:core/v1:Service",
    }
    assert all(child.parent.endswith(f"::{NAME}") for name, child in engine.resources.items() if name != NAME)


def test_an_image_that_is_known_later_reaches_the_pod(engine: Any) -> None:
    engine.run(lambda: ServingStack(NAME, {**SPEC, "image": pulumi.Output.from_input(IMAGE)}))
    deployment = engine.resources[f"{NAME}-deployment"].inputs
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert engine.resources[NAME].inputs["image"] == IMAGE


def test_no_pod_before_the_quota(engine: Any) -> None:
    def program() -> None:
        pool = GpuNodePool("pool", {"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 6}})
        ServingStack(NAME, {**SPEC, "placement": pool.placement}, pulumi.ResourceOptions(depends_on=[pool]))

    engine.run(program)
    waits_for = {urn.split("::")[-1] for urn in engine.resources[f"{NAME}-deployment"].dependencies}
    assert {"namespace/gpuserve-local", "pool-quota"} <= waits_for


def test_what_is_handed_over_is_put_out_too(engine: Any) -> None:
    server = engine.run(lambda: ServingStack(NAME, SPEC))
    outputs = engine.outputs[NAME]
    assert server.endpoint.service == outputs["endpoint"]["service"] == NAME
    assert server.scale_target.kind == outputs["scale_target"]["kind"] == "Deployment"
    assert server.metrics_source.port == outputs["metrics_source"]["port"] == "metrics"


def test_a_bad_server_registers_nothing(engine: Any) -> None:
    with pytest.raises(SpecError, match="did you mean 'triton'"):
        engine.run(lambda: ServingStack(NAME, {**SPEC, "runtime": "tritonn"}))
    assert engine.resources == {}
