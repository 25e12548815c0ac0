"""How manifests become resources: the same for every component."""

from typing import Any

from gpuserve.node_pool import GpuNodePool

POOL = {"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 6}, "nodes": ["node-1"]}
OWNER = "pulumi.com/patchFieldManager"


def test_fields_are_owned_in_the_stack_s_name_so_that_a_killed_run_can_be_repeated(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", POOL))
    for child in ("pool-namespace", "pool-quota"):
        assert engine.resources[child].inputs["metadata"]["annotations"][OWNER] == "pulumi-gpuserve-test"


def test_patches_of_one_object_keep_an_owner_each(engine: Any) -> None:
    engine.run(lambda: GpuNodePool("pool", POOL))
    assert OWNER not in engine.resources["pool-node-node-1"].inputs["metadata"]["annotations"]
