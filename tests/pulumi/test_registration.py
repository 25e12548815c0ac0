"""How manifests become resources: the same for every component."""

from typing import Any

import pulumi
import pytest

import gpuserve
from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.component import MonitoringStack
from gpuserve.node_pool.component import GpuNodePool

POOL = {"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 6}, "nodes": ["node-1"]}
SOURCE = MetricsSource("gpuserve-local", "filetype", "fp32", "triton", {}, "metrics")
OWNER = "pulumi.com/patchFieldManager"


def test_fields_are_owned_in_the_stack_s_name_so_that_a_killed_run_can_be_repeated(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", POOL))
    for child in ("namespace/gpuserve-local", "pool-quota"):
        assert engine.resources[child].inputs["metadata"]["annotations"][OWNER] == "pulumi-gpuserve-test"


def test_patches_of_one_object_keep_an_owner_each(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", POOL))
    assert OWNER not in engine.resources["pool-node-node-1"].inputs["metadata"]["annotations"]


def _objects(engine: Any) -> set[tuple[str, str]]:
    """Return type and name, by which the engine tells children from each other, of all but the components."""
    return {(child.type, child.name) for child in engine.registered if child.type.startswith("kubernetes:")}


def test_a_renamed_pool_keeps_its_namespace_which_would_be_deleted_with_the_old_name(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("a10", {**POOL, "namespace": "ml"}))
    before = _objects(engine)
    engine.registered.clear()
    engine.run(lambda: GpuNodePool("a10-east", {**POOL, "namespace": "ml"}))
    assert before & _objects(engine) == {("kubernetes:core/v1:Namespace", "namespace/ml")}


@pytest.mark.parametrize("discovery", ["annotations", "operator"])
def test_a_renamed_monitoring_stack_keeps_its_objects_whose_names_are_agreed_upon(engine: Any, discovery: str) -> None:
    args = {"sources": [SOURCE], "discovery": discovery, "stack": "prod"}
    engine.run(lambda: MonitoringStack("platform", args))
    before = _objects(engine)
    engine.registered.clear()
    engine.run(lambda: MonitoringStack("other", args))
    assert before == _objects(engine)
    assert before


def test_a_lasting_object_of_an_earlier_versions_stack_is_the_same_object(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", POOL))
    assert engine.resources["namespace/gpuserve-local"].aliases == ["pool-namespace"]
    assert engine.resources["pool-quota"].aliases == []


def test_components_are_in_the_package_by_their_names():
    found = {name: getattr(gpuserve, name) for name in gpuserve.__all__}
    assert found["GpuNodePool"] is GpuNodePool
    assert all(issubclass(kind, pulumi.ComponentResource) and kind.__name__ == name for name, kind in found.items())
    assert set(gpuserve.__all__) <= set(dir(gpuserve))
    with pytest.raises(AttributeError, match="no attribute 'ServingStak'"):
        getattr(gpuserve, "ServingStak")  # noqa: B009 - what a program's typing error asks for
