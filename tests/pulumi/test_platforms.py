"""Two Platforms in one program: each name that Pulumi gets is there once, and a renamed Platform keeps its resources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

SERVICE = {
    "name": "small",
    "pool": "local",
    "versions": [{"build": "fp32", "weight": 100}],
    "traffic": {"host": "small.example.com", "tls": {"mode": "generated"}},
    "scale": {"min": 1, "max": 2, "queue_time": "10ms"},
}


@pytest.fixture
def declare(small_platform: Any) -> Callable[..., Any]:
    """A Platform with a certificate of its own and an autoscaler, to be called in a program."""

    def declared(name: str, **options: Any) -> Any:
        return small_platform(name, services=[SERVICE], **options)

    return declared


def _registered(engine: Any, program: Any) -> dict[tuple[str, str], list[str]]:
    engine.registered.clear()
    engine.run(program)
    found = {(each.type, each.name): each.aliases for each in engine.registered}
    assert len(found) == len(engine.registered), "a name is there twice"
    return found


def _of(platform: str, name: str) -> str:
    """Name an object of monitoring, which two Platforms may have in one namespace, after another Platform."""
    return f"{name}-{platform}" if name.startswith("configmap/monitoring/") else name


def test_two_platforms_of_one_content_share_no_name(engine: Any, declare: Any) -> None:
    found = _registered(engine, lambda: [declare("test"), declare("east", own_names=True), declare("west", own_names=True)])
    plain = {name for _, name in found if "/" not in name or name.startswith(("namespace/", "configmap/"))}
    for prefix in ("east", "west"):
        below = {name.removeprefix(f"{prefix}/") for _, name in found if name.startswith(f"{prefix}/")}
        assert below == {_of(prefix, name) for name in plain - {"test", "east", "west"}}
    assert "east/small-certificate" in {name for _, name in found}


def test_a_second_platform_without_names_of_its_own_is_told_how_to_get_them(engine: Any, declare: Any) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        engine.run(lambda: [declare("test"), declare("west")])
    assert "Platform 'west': Platform 'test' is in this program too" in str(caught.value)
    assert "Fix: pass own_names=True" in str(caught.value)


def test_the_only_platform_may_be_called_anything(engine: Any, declare: Any) -> None:
    before = _registered(engine, lambda: declare("prod"))
    after = _registered(engine, lambda: declare("production"))
    assert set(before) ^ set(after) == {("gpuserve:index:Platform", name) for name in ("prod", "production")}
    assert "small-fp32-deployment" in {name for _, name in before}


def test_the_folder_may_be_text(engine: Any, declare: Any, tmp_path: Path) -> None:
    assert _registered(engine, lambda: declare("prod", folder=str(tmp_path))) == _registered(engine, lambda: declare("prod"))


def test_a_renamed_platform_with_names_of_its_own_keeps_its_resources_by_its_alias(engine: Any, declare: Any) -> None:
    before = _registered(engine, lambda: declare("east", own_names=True))
    opts = pulumi.ResourceOptions(aliases=[pulumi.Alias(name="east")])
    after = _registered(engine, lambda: declare("orient", own_names=True, opts=opts))
    # Children of these two get the aliases of their parents from the engine, for their names begin with their parents'. What monitoring is called in the
    # cluster changes with the Platform's name, and is made anew.
    inherited = {"orient/small-fp32-cpu-build", "orient/small-certificate"}
    for (kind, name), aliases in after.items():
        assert name in inherited or "/monitoring/" in name or any((kind, alias) in before for alias in aliases), name
