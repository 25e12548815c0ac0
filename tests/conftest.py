"""What holds for all tests."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Take interrupts: a shell starts background jobs with SIGINT ignored, and what the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _whole_tracebacks() -> Iterator[None]:
    """Undo what a `ModelImage`'s provider does to its own process when a build fails; Pulumi's mocks would wait for ever."""
    yield
    vars(sys).pop("tracebacklimit", None)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Undo what a command that ran in this process did to its environment: as a process of its own it may."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
