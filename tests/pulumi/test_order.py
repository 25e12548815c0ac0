"""Nothing of the cluster is touched before the images are there, and yet a preview plans exactly what an update then does."""

import asyncio
from typing import Any

import pulumi
import pytest

from gpuserve.kubernetes import waiting
from gpuserve.kubernetes.waiting import once_known

IMAGE = "small-fp32-cpu-build"


def names(engine: Any) -> list[str]:
    return [
        resource.name for resource in engine.registered if resource.type.startswith("kubernetes:") or resource.name == IMAGE
    ]


def test_an_update_registers_the_image_before_anything_of_the_cluster(engine: Any, small_platform: Any) -> None:
    engine.run(small_platform)
    first, *others = names(engine)
    assert first == IMAGE
    assert "namespace/gpuserve-local" in others
    assert "small-fp32-deployment" in others


def test_only_pools_come_before_an_image_that_they_build(engine: Any, small_platform: Any) -> None:
    engine.run(lambda: small_platform(builder={"kind": "job"}))
    order = names(engine)
    assert order[: order.index(IMAGE)] == ["namespace/gpuserve-local", "local-quota"]


@pytest.mark.parametrize("kind", ["local", "job"])
def test_a_preview_plans_what_the_update_does(engine: Any, small_platform: Any, kind: str) -> None:
    def planned(*, preview: bool) -> dict[str, tuple[Any, ...]]:
        engine.registered.clear()
        engine.run(lambda: small_platform(builder={"kind": kind}), preview=preview)
        return {f"{found.type} {found.name}": (found.parent, found.dependencies) for found in engine.registered}

    assert planned(preview=True) == planned(preview=False)


@pytest.mark.parametrize("preview", [True, False])
def test_an_update_waits_and_a_preview_does_not(monkeypatch: pytest.MonkeyPatch, *, preview: bool) -> None:
    monkeypatch.setattr(waiting.pulumi.runtime, "is_dry_run", lambda: preview)

    async def waited() -> bool:
        known = asyncio.Event()
        turn = asyncio.ensure_future(once_known(pulumi.Output.from_input(known.wait())).future())
        await asyncio.sleep(0.05)
        before = turn.done()
        known.set()
        assert await asyncio.wait_for(turn, 5) is None
        return not before

    assert asyncio.run(waited()) is not preview


def test_what_fails_fails_what_waits_for_it() -> None:
    async def failing() -> None:
        raise LookupError("no image")

    async def waiting_for_it() -> None:
        await once_known(pulumi.Output.from_input(failing())).future()

    with pytest.raises(LookupError, match="no image"):
        asyncio.run(waiting_for_it())
