"""Closed-loop load: so many callers, each sending its next request when the last one was answered.

Latency is what a caller waits. Callers that wait send nothing, so this finds what a server can do at a given concurrency; it does not
show what happens to requests that arrive faster than that, which is what a queue and an autoscaler are for.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from gpuserve_images.errors import ImageError, SourceError
from gpuserve_images.verify.load_point import LoadPoint

PATIENCE = 5.0
"""Seconds that callers get to finish their last request when a run is broken off."""

Call = Callable[[], None]
"""Sends one request and waits for its answer."""


class LoadError(ImageError):
    """A model or a server cannot be measured."""


class Callee(Protocol):
    """What is measured: a model in this process, or a server."""

    @property
    def where(self) -> str:
        """What it is and where it runs, for the report."""
        ...

    @property
    def cores(self) -> int | None:
        """Cores of this machine that it runs on; None where it does not run on them."""
        ...

    def connect(self, batch: int) -> AbstractContextManager[Call]:
        """Return one caller's own connection, which sends requests of so many samples."""
        ...


@dataclass(frozen=True)
class Pace:
    """How long one point is measured.

    Attributes:
        warm_up: Seconds of requests before, which do not count: first calls allocate memory and start threads.
        seconds: Seconds of requests that count.
        at_least: Requests per caller that count even when they take longer.
    """

    warm_up: float = 1.0
    seconds: float = 3.0
    at_least: int = 5


def measure_point(callee: Callee, batch: int, concurrency: int, pace: Pace, *, proven: bool = False) -> LoadPoint:
    """Measure one batch size at one concurrency.

    A `KeyboardInterrupt` ends the callers and their connections before it goes on.

    Args:
        callee: What is measured.
        batch: Samples per request.
        concurrency: Callers at the same time.
        pace: How long it is measured.
        proven: Whether it answered before: then a warm-up without any answer may be a moment's refusal.

    Raises:
        LoadError: When every request fails, be it in the warm-up alone of what is not proven.
    """
    crew = _Crew(callee, batch, pace, concurrency, proven)
    try:
        for number in range(concurrency):
            crew.launched += 1
            threading.Thread(target=crew.work, name=f"caller-{number}", daemon=True).start()
        # Not `Thread.join`: one that is interrupted takes its thread for ended (CPython 3.11, `_wait_for_tstate_lock`).
        while not crew.finished.wait(0.2):
            pass
    except BaseException:
        with _uninterrupted():
            crew.break_off()
        raise
    return crew.result()


@dataclass(frozen=True)
class Measured:
    """What callers saw at every point.

    Attributes:
        points: The points at which requests were answered.
        notes: Why there is nothing of the others.
    """

    points: tuple[LoadPoint, ...]
    notes: tuple[str, ...] = ()


@contextmanager
def _uninterrupted() -> Generator[None]:
    """Let no second interrupt in: a program that ends while a caller is inside a model is aborted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def measure_points(
    callee: Callee,
    batches: Sequence[int],
    concurrencies: Sequence[int],
    pace: Pace,
    progress: Callable[[str, int, int], None],
) -> Measured:
    """Measure every batch size at every concurrency; a later point without an answer costs none of those before it.

    Args:
        callee: What is measured.
        batches: Samples per request.
        concurrencies: Callers at the same time.
        pace: How long each point is measured.
        progress: Told before and after each point.

    Raises:
        LoadError: When nothing is answered at the first point.
    """
    wanted = [(batch, concurrency) for batch in batches for concurrency in concurrencies]
    points: list[LoadPoint] = []
    notes: list[str] = []
    proven = False
    for done, (batch, concurrency) in enumerate(wanted, start=1):
        name = f"batch {batch}, concurrency {concurrency}"
        progress(name, done - 1, len(wanted))
        try:
            points.append(measure_point(callee, batch, concurrency, pace, proven=proven))
            proven = True
        except LoadError as error:
            if not points:
                raise
            notes.append(f"{name}: no request was answered: {error}")
            # What is gone altogether shall not be waited for at every point.
            proven = False
        progress(name, done, len(wanted))
    return Measured(tuple(points), tuple(notes))


@dataclass
class _Crew:
    """Callers that start together and stop together."""

    callee: Callee
    batch: int
    pace: Pace
    concurrency: int
    proven: bool
    stop: threading.Event = field(default_factory=threading.Event)
    answers: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    failures: list[Exception] = field(default_factory=list[Exception])
    broken: list[Exception] = field(default_factory=list[Exception])
    answered: bool = False
    finished: threading.Event = field(default_factory=threading.Event)
    launched: int = 0
    gone: int = 0
    ended: float = math.inf  # the first of them
    started: float = 0.0

    def __post_init__(self) -> None:
        self.ready = threading.Barrier(self.concurrency, action=self._start)
        self._lock = threading.Lock()

    def _start(self) -> None:
        """Begin to measure, once every caller is warm.

        Raises:
            LoadError: When nobody got an answer yet.
        """
        if self.failures and not (self.answered or self.proven):
            raise self.failures[0]
        self.started = time.perf_counter()

    def work(self) -> None:
        """Run one caller."""
        try:
            with self.callee.connect(self.batch) as call:
                self._warm_up(call)
                self.ready.wait()
                self._measure(call)
        except threading.BrokenBarrierError:
            return
        except Exception as error:  # noqa: BLE001 - whatever the client or the model raises is what the caller of this is told
            with self._lock:
                self.broken.append(error)
            self.stop.set()
            self.ready.abort()
        finally:
            with self._lock:
                self.gone += 1
                if self.gone == self.concurrency:
                    self.finished.set()

    def break_off(self) -> None:
        """Stop the callers, and wait for them as long as `PATIENCE`."""
        self.stop.set()
        self.ready.abort()
        deadline = time.monotonic() + PATIENCE
        while self.gone < self.launched and time.monotonic() < deadline:
            time.sleep(0.005)

    def _warm_up(self, call: Call) -> None:
        end = time.perf_counter() + self.pace.warm_up
        while True:
            try:
                call()
                self.answered = True
            except LoadError as error:
                with self._lock:
                    self.failures.append(error)
            if time.perf_counter() >= end or self.stop.is_set():
                return

    def _measure(self, call: Call) -> None:
        answers: list[tuple[float, float]] = []
        failures: list[Exception] = []
        end = self.started + self.pace.seconds
        now = time.perf_counter()
        while not self.stop.is_set() and (now < end or len(answers) + len(failures) < self.pace.at_least):
            try:
                call()
            except LoadError as error:
                failures.append(error)
                now = time.perf_counter()
                continue
            before, now = now, time.perf_counter()
            answers.append((before, now))
        with self._lock:
            self.answers += answers
            self.failures += failures
            self.ended = min(self.ended, now)

    def result(self) -> LoadPoint:
        """Return the figures, or raise what kept the callers from working."""
        for error in self.broken:
            raise (
                error
                if isinstance(error, ImageError) and not isinstance(error, SourceError)
                else _failed(self.callee.where, error)
            ) from error
        if not self.answers:
            raise self.failures[0]
        span = self.started, self.ended
        return LoadPoint.of(self.answers, batch=self.batch, concurrency=self.concurrency, errors=len(self.failures), span=span)


def _failed(where: str, error: Exception) -> LoadError:
    reason = f"failed while it was measured: {type(error).__name__}: {' '.join(str(error).split())}"
    return LoadError(where, reason, "Check the model's inputs: names, types, shapes and ranges.")
