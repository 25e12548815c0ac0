"""What a quota must hold, in amounts that a quota can be given."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from gpuserve.platform.quotas import quota_holds_the_most
from gpuserve.platform.spec import PlatformSpec


@pytest.mark.parametrize(
    ("name", "requested_and_fix"),
    [
        ("memory", ("1400M", "4006Mi")),
        ("memory", ("1Gi", "3Gi")),
        ("memory", ("1.5Gi", "4608Mi")),
        ("memory", ("1000000001", "2862Mi")),
        ("cpu", ("1234.5678", "3703.704")),
        ("cpu", ("100m", "0.3")),
        ("cpu", ("500000", "1500000")),
    ],
)
def test_the_amount_that_a_fix_names_is_enough(
    name: str, requested_and_fix: tuple[str, str], sandbox: Any, refusal: Callable[[], str], cli: Callable[..., Any]
) -> None:
    requested, fix = requested_and_fix
    quota = sandbox.platform["pools"][0]["quota"]
    quota[name] = "64Mi" if name == "memory" else "1m"
    sandbox.service["resources"] = {name: requested}
    sandbox.write()
    (said,) = re.findall(r"raise it to at least ([\w.]+)", refusal())
    assert said == fix
    quota[name] = said
    sandbox.write()
    assert cli("check", "-s", "local", "--stacks", sandbox.stacks).exit_code == 0


def platform(*services: dict[str, Any], **quota: Any) -> PlatformSpec:
    """Return services of one GPU a pod on a pool with a quota, of one version where they do not say otherwise."""
    declared = [
        {
            "name": f"s{number}",
            "pool": "p",
            "versions": [{"build": "a", "weight": 100}],
            "traffic": {"host": f"s{number}.example.com"},
            **service,
        }
        for number, service in enumerate(services)
    ]
    pool = {"name": "p", "accelerator": "simulated", "gpus": 1000, "quota": quota}
    return PlatformSpec.parse({"environment": "local", "registry": "localhost:5000/m", "pools": [pool], "services": declared})


def notes(*services: dict[str, Any], **quota: Any) -> list[str]:
    return [str(problem) for problem in quota_holds_the_most(platform(*services, **quota))]


GROWING = {"scale": {"min": 1, "max": 3, "queue_time": "10ms"}}


def test_a_quota_that_is_full_at_the_most_replicas_leaves_no_room_for_a_rollout() -> None:
    (said,) = notes(GROWING, GROWING, gpus=6)
    assert said.startswith("pools[0].quota.gpus = 6: holds no new pod of a rollout beside the services at their most replicas")
    assert said.endswith("Fix: raise it to at least 7 GPUs, or lower scale.max")
    assert notes(GROWING, GROWING, gpus=7) == []
    in_place = {**GROWING, "rollout": "in-place"}
    assert notes(in_place, in_place, gpus=6) == []
    assert notes(in_place, GROWING, gpus=6) == [said]


def test_a_maximum_above_the_quota_is_one_that_autoscalers_do_not_reach() -> None:
    (said,) = notes({"scale": {"max": 500, "qps": 9}}, gpus=40)
    assert "is less than the 500 GPUs that the services on it may grow to: autoscalers stop there; while they fill it" in said
    assert "at least 501 GPUs" in said
    (said,) = notes({"scale": {"max": 500, "qps": 9}, "rollout": "in-place"}, gpus=40)
    assert "autoscalers stop there. Fix: raise it to at least 500 GPUs, or lower scale.max" in said


@pytest.mark.parametrize(("gpus", "noted"), [(6, True), (7, False)])
def test_check_and_render_say_so_and_go_on(gpus: int, noted: bool, sandbox: Any, cli: Callable[..., Any]) -> None:
    sandbox.platform["pools"][0].update(gpus=8, quota={"gpus": gpus})
    sandbox.service["scale"] = {"min": 1, "max": 3, "queue_time": "10ms"}
    sandbox.write()
    said = f"{sandbox.stacks}/Pulumi.local.yaml: config.gpuserve:platform.pools[0].quota.gpus = 6: holds no new pod"
    for command in ("check", "render"):
        result = cli(command, "-s", "local", "--stacks", sandbox.stacks)
        assert result.exit_code == 0
        assert (f"note: {said}" in result.stderr) is noted
    report = json.loads(cli("check", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)
    assert [note.startswith(said) for note in report["notes"]] == [True] * noted


def test_processors_and_memory_are_reckoned_too() -> None:
    tight = {"gpus": 100, "cpu": "300m", "memory": "7Gi"}
    cpu, memory = notes(GROWING, **tight)
    assert "pools[0].quota.cpu = '300m'" in cpu
    assert "pools[0].quota.memory = '7Gi'" in memory
    assert "at least 8Gi" in memory
