"""The pool as a component under Pulumi's mocks."""

from typing import Any

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import Placement
from gpuserve.node_pool.component import GpuNodePool

LOCAL = {"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 6, "cpu": 4}, "nodes": ["gpuserve-local"]}


def test_children_have_the_provider_s_types_and_stable_names(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", LOCAL))
    assert engine.types() == {
        "pool": "gpuserve:index:GpuNodePool",
        "namespace/gpuserve-local": "kubernetes:core/v1:Namespace",
        "pool-quota": "kubernetes:core/v1:ResourceQuota",
        "pool-defaults": "kubernetes:core/v1:LimitRange",
        "pool-node-gpuserve-local": "kubernetes:core/v1:NodePatch",
    }
    assert all(child.parent.endswith("::pool") for name, child in engine.resources.items() if name != "pool")


def test_a_node_is_patched_by_force_and_stays_a_node(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", LOCAL))
    node = engine.resources["pool-node-gpuserve-local"].inputs
    assert node["kind"] == "Node"
    assert node["metadata"]["annotations"]["pulumi.com/patchForce"] == "true"


def test_the_quota_waits_for_its_namespace_and_the_node_does_not(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", LOCAL))
    for child in ("pool-quota", "pool-defaults"):
        assert [urn.split("::")[-1] for urn in engine.resources[child].dependencies] == ["namespace/gpuserve-local"]
    assert engine.resources["pool-node-gpuserve-local"].dependencies == []


def test_the_declaration_is_the_component_s_input(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", LOCAL))
    inputs = engine.resources["pool"].inputs
    assert inputs["accelerator"] == "simulated"
    assert inputs["quota"] == {"gpus": 6, "cpu": "4"}


def test_placement_is_handed_over_and_put_out(engine: Any) -> None:
    pool = engine.run(lambda: GpuNodePool("pool", LOCAL))
    assert pool.placement == Placement(
        pool="local",
        namespace="gpuserve-local",
        node_selector={"gpuserve.io/pool": "local"},
        tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
        simulated=True,
    )
    outputs = engine.outputs["pool"]
    assert outputs["namespace"] == "gpuserve-local"
    assert outputs["placement"]["node_selector"] == {"gpuserve.io/pool": "local"}


def test_a_bad_pool_registers_nothing(engine: Any) -> None:
    with pytest.raises(SpecError, match=r"quota\.gpus is 6, but gpus is 4"):
        engine.run(lambda: GpuNodePool("pool", {**LOCAL, "gpus": 4}))
    assert engine.resources == {}
