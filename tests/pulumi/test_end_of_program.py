"""How a program ends: all its outputs are awaited together, and an SDK that does so itself is left alone (docs/adr/0004)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest
from e2e_event_loop import leave_nothing_on
from pulumi.runtime import stack
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.settings import SETTINGS

from gpuserve.kubernetes import engine as ours
from gpuserve.kubernetes.engine import await_outputs_together

SECONDS = 10
"""For what takes a few turns of the event loop: longer means for ever."""

OUTPUTS = 20


class _Nothing(Mocks):
    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return f"{args.name}-id", args.inputs

    def call(self, args: MockCallArgs) -> dict[Any, Any]:
        return {}


def _within(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on an event loop of its own, and leave nothing on it."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(work, SECONDS))
    finally:
        leave_nothing_on(loop, cancel=True)
        loop.close()
        SETTINGS.outputs.clear()


async def _as_the_language_host_does(program: Callable[[], None]) -> None:
    SETTINGS.rpc_manager.clear()
    SETTINGS.outputs.clear()
    set_mocks(_Nothing())
    stack.set_root_resource(None)  # a new program has none; the mocks brought theirs
    await stack.run_in_stack(program)


def _turns(number: int, ended: list[int]) -> pulumi.Output[int]:
    """Return an output that ends after some turns of the event loop, and then has another one made."""

    async def later() -> int:
        for _ in range(number):
            await asyncio.sleep(0)
        ended.append(number)
        return number

    return pulumi.Output.from_input(later()).apply(lambda _: pulumi.Output.from_input(_at_once(ended)))


async def _at_once(ended: list[int]) -> int:
    await asyncio.sleep(0)
    ended.append(0)
    return 0


@pytest.fixture
def seen_by_the_sdk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many outputs were outstanding when the SDK began to wait for them."""
    seen: list[int] = []
    wait: Callable[..., Awaitable[None]] = stack.wait_for_rpcs

    def counted(*arguments: Any) -> Awaitable[None]:
        seen.append(len([task for task in SETTINGS.outputs if not task.done()]))
        return wait(*arguments)

    monkeypatch.setattr(stack, "wait_for_rpcs", counted)
    return seen


@pytest.mark.parametrize("together", [True, False])
def test_the_sdk_finds_nothing_left_to_wait_for(seen_by_the_sdk: list[int], *, together: bool) -> None:
    ended: list[int] = []

    def program() -> None:
        if together:
            await_outputs_together()
        for number in range(OUTPUTS):
            _turns(number, ended)

    _within(_as_the_language_host_does(program))
    assert len(ended) == 2 * OUTPUTS
    # Without it the SDK finds them all, or else this test would say nothing.
    assert (seen_by_the_sdk[0] == 0) is together


@pytest.mark.parametrize("turns", [0, 100])
def test_a_failing_output_is_reported_by_the_sdk_while_others_wait(seen_by_the_sdk: list[int], turns: int) -> None:
    async def failing() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise LookupError("the output's own error")

    def program() -> None:
        await_outputs_together()
        pulumi.Output.from_input(asyncio.Event().wait())  # never
        pulumi.Output.from_input(failing())

    with pytest.raises(LookupError, match="the output's own error"):
        _within(_as_the_language_host_does(program))
    assert len(seen_by_the_sdk) == 1
    assert seen_by_the_sdk[0] > 0


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """What was given to `pulumi.run`."""
    programs: list[Callable[[], Coroutine[Any, Any, None]]] = []
    monkeypatch.setattr(pulumi, "run", programs.append)
    return programs


@pytest.mark.parametrize("settings", [SimpleNamespace(), SimpleNamespace(outputs=[]), SimpleNamespace(outputs=None)])
def test_an_sdk_without_that_set_of_outputs_is_left_alone(
    settings: SimpleNamespace, registered: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "SETTINGS", settings)
    await_outputs_together()
    assert registered == []


def test_an_sdk_without_that_door_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pulumi, "run")
    await_outputs_together()


def test_an_sdk_that_keeps_what_has_ended_in_its_set_is_not_waited_for_for_ever(
    registered: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def whole() -> None:
        kept = {asyncio.ensure_future(asyncio.sleep(0)) for _ in range(OUTPUTS)}
        monkeypatch.setattr(ours, "SETTINGS", SimpleNamespace(outputs=kept))
        await_outputs_together()
        (program,) = registered
        await program()
        assert all(task.done() for task in kept)

    _within(whole())
