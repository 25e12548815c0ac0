"""How a large program ends in linear time (docs/adr/0004)."""

import asyncio
from functools import partial
from typing import Any, cast

import pulumi
from pulumi.runtime.settings import SETTINGS


def await_outputs_together() -> None:
    """Await all outstanding outputs of this program together, at its end.

    The SDK (up to 3.272 at least) awaits them one at a time at the end of a program and starts over after each, so its time
    grows with the square of the resources. This registers an asynchronous entry point (`pulumi.run`, the SDK's own door)
    that waits for all of them at once; the SDK's loop then finds nothing left to do. An SDK that no longer tracks its
    outputs in that set, or that has mended its loop, is left alone: the wait is then skipped or costs nothing.

    Call it once, in the main program.
    """
    tracked = getattr(SETTINGS, "outputs", None)
    if isinstance(tracked, set) and hasattr(pulumi, "run"):
        pulumi.run(partial(_settle, cast("set[asyncio.Task[Any]]", tracked)))


async def _settle(tracked: "set[asyncio.Task[Any]]") -> None:
    # Looked at anew each time: what ends makes others. Only what is under way counts, whether or not the SDK drops what has ended.
    while pending := [task for task in tuple(tracked) if not task.done()]:
        if any(task.done() and _failed(task) for task in tuple(tracked)):
            return  # the SDK reports failures better than we could
        await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.cancelled() or task.exception() is not None
