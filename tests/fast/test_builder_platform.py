"""`builder:` in a stack file: what is refused, and which pool a Job runs on."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve.platform.compose import build_placement, image_requests
from gpuserve.platform.load import Environment, load_stack

ADDRESS = {"registry_address": "http://10.244.0.1:5000"}


def load(sandbox: Any, builder: Any) -> Environment:
    sandbox.platform["builder"] = builder
    sandbox.write()
    return load_stack("local", sandbox.stacks)


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("job", "builder.registry_address: is not given, and pods do not reach registry localhost:5000"),
        ({"kind": "job", "pool": "locl", **ADDRESS}, "builder.pool = 'locl': no such pool. Fix: did you mean 'local'?"),
        ("jobs", "builder.kind = 'jobs'"),
        ({"retries": 1}, "add `kind: job`"),
    ],
)
def test_what_cannot_work_is_said_with_the_file(sandbox, builder, said):
    with pytest.raises(SpecError) as caught:
        load(sandbox, builder)
    assert said in str(caught.value)
    assert str(sandbox.stack_file) in str(caught.value)


def test_a_job_runs_on_the_pool_of_the_service_or_on_the_one_named(sandbox):
    sandbox.platform["pools"].append({"name": "big", "accelerator": "simulated", "gpus": 1, "quota": {"gpus": 1}})
    platform = load(sandbox, {"kind": "job", **ADDRESS}).platform
    assert {build_placement(platform, wanted).pool for wanted in image_requests(platform)} == {"local"}
    platform = load(sandbox, {"kind": "job", "pool": "big", **ADDRESS}).platform
    assert {build_placement(platform, wanted).namespace for wanted in image_requests(platform)} == {"gpuserve-big"}


def test_a_quota_that_holds_no_job_is_said_before_anything_is_made(sandbox):
    pools = sandbox.platform["pools"]
    pools[0]["quota"] = {"gpus": 6, "cpu": 1, "memory": "2Gi"}
    pools.append({"name": "other", "accelerator": "simulated", "gpus": 1, "quota": {"gpus": 0}})
    with pytest.raises(SpecError) as caught:
        load(sandbox, {"kind": "job", "cpu": 2, "memory": "4Gi", **ADDRESS})
    said = str(caught.value)
    assert "pools[0].quota.cpu = '1': is less than the 2 that a Job which builds there requests (`builder.cpu`)" in said
    assert "pools[0].quota.memory = '2Gi': is less than the 4Gi" in said
    assert "pools[1]" not in said

    pools[0]["quota"] = {"gpus": 6}
    with pytest.raises(SpecError, match=r"pools\[1\]\.quota\.gpus = '0': is less than the 1 .*lower `builder\.gpus`"):
        load(sandbox, {"kind": "job", "pool": "other", "gpus": 1, **ADDRESS})
    # Of another namespace nothing is known here.
    load(sandbox, {"kind": "job", "pool": "other", "gpus": 1, "namespace": "builds", **ADDRESS})
    load(sandbox, {"kind": "job", "pool": "other", **ADDRESS})


@pytest.mark.parametrize("builder", ["job", "local", {"kind": "job", "deadline": "2h", **ADDRESS}])
def test_editors_take_both_forms(builder):
    schema = json.loads((Path(__file__).parents[2] / "stacks" / "schema.json").read_text())
    definition = schema["properties"]["config"]["properties"]["gpuserve:platform"]
    if "$ref" in definition:
        definition = schema["$defs"][definition["$ref"].rpartition("/")[2]]
    part = {**definition["properties"]["builder"], "$defs": schema["$defs"]}
    jsonschema.validate(builder, part)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("jobs", part)
