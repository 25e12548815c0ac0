"""Debug messages reach the engine, and nothing waits for them; everything else is waited for (docs/adr/0004)."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import pulumi
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from gpuserve.kubernetes import engine as ours
from gpuserve.kubernetes.engine import log_debug_in_passing

SECONDS = 10


class Engine(engine_pb2_grpc.EngineServicer):
    """Takes messages when it is let."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, str]] = []
        self.let = threading.Event()
        self.finish: Callable[[], None] = lambda: None
        """What the program does at its end."""
        self.stop: Callable[[], None] = lambda: None

    def Log(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: N802 - the protocol's name
        del context
        assert self.let.wait(SECONDS)
        self.taken.append((request.severity, request.message))
        return empty_pb2.Empty()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that is busy, and a program that is connected to it."""
    servicer, server = Engine(), grpc.server(futures.ThreadPoolExecutor(4))
    engine_pb2_grpc.add_EngineServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        monkeypatch.setattr(ours, "get_engine", lambda: stub)
        monkeypatch.setattr("pulumi.log.get_engine", lambda: stub)
        monkeypatch.setattr(ours.atexit, "register", lambda finish: setattr(servicer, "finish", finish))
        servicer.stop = lambda: server.stop(None).wait()
        try:
            yield servicer
        finally:
            servicer.let.set()
            server.stop(None).wait()


def test_a_busy_engine_is_not_waited_for_and_misses_nothing(engine: Engine) -> None:
    log_debug_in_passing()
    for number in range(20):
        pulumi.log.debug(str(number))  # would not come back before the engine is let
    assert engine.taken == []
    engine.let.set()
    engine.finish()
    assert sorted(engine.taken) == sorted((engine_pb2.DEBUG, str(number)) for number in range(20))


def test_what_a_program_says_is_waited_for(engine: Engine) -> None:
    log_debug_in_passing()
    threading.Timer(0.2, engine.let.set).start()
    pulumi.log.warn("beware")
    assert engine.taken == [(engine_pb2.WARNING, "beware")]


def test_an_engine_that_stays_busy_is_not_waited_for_at_the_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "LAST_WORDS", 0.05)
    log_debug_in_passing()
    pulumi.log.debug("nobody takes this")
    engine.finish()
    assert engine.taken == []


def test_an_engine_that_is_gone_stops_no_program(engine: Engine) -> None:
    log_debug_in_passing()
    pulumi.log.debug("under way")
    engine.stop()
    pulumi.log.debug("to nobody")
    engine.finish()


@pytest.mark.parametrize("engine_of", [None, SimpleNamespace(), SimpleNamespace(Log=print)])
def test_no_engine_or_another_sdk_is_left_alone(engine_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "get_engine", lambda: engine_of)
    log_debug_in_passing()
    assert getattr(engine_of, "Log", print) is print
