"""How a large program ends in linear time, and waits for no debug message (docs/adr/0004)."""

import asyncio
import atexit
import time
from contextlib import suppress
from functools import partial
from typing import Any, cast

import grpc
import pulumi
from pulumi.runtime.proto import engine_pb2
from pulumi.runtime.settings import SETTINGS, get_engine

LAST_WORDS = 2.0
"""Seconds that the last debug messages get to reach the engine when the program ends."""


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


def log_debug_in_passing() -> None:
    """Send debug messages to the engine without waiting for its answer.

    The SDK (up to 3.272 at least) writes several for each resource, whether or not anybody asked for them (`--debug`), and waits for the
    engine's answer to each while nothing else of the program goes on. What is no debug message is waited for as before. A program without an
    engine, and an SDK whose calls cannot be sent so, are left alone.

    Call it once, in the main program.
    """
    engine: Any = get_engine()
    send = getattr(engine, "Log", None)
    if callable(getattr(send, "future", None)):
        passing = _Passing(send)
        engine.Log = passing
        atexit.register(passing.finish)


class _Passing:
    """The engine's `Log`, which answers debug messages with what is still under way."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._under_way: set[Any] = set()

    def __call__(self, request: Any, *arguments: Any, **options: Any) -> Any:
        if request.severity != engine_pb2.DEBUG:
            return self._send(request, *arguments, **options)
        sent = self._send.future(request, *arguments, **options)
        self._under_way.add(sent)
        # At once where it has ended already.
        sent.add_done_callback(self._under_way.discard)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._send, name)

    def finish(self) -> None:
        """Wait for the last messages; an engine that is gone or busy for longer needs none."""
        deadline = time.monotonic() + LAST_WORDS
        for sent in tuple(self._under_way):
            with suppress(grpc.FutureTimeoutError, grpc.FutureCancelledError):
                sent.exception(timeout=max(0.0, deadline - time.monotonic()))
