"""Load: what callers see, over a real connection or none, and what a failure reads like."""

import _thread
import threading
import time
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from e2e_small_model import classifier
from e2e_v2_server import NAME, grpc_server, http_server

from gpuserve_images.onnx_model.session import Session
from gpuserve_images.verify.capacity import Capacity, doubling, measure_capacity
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.grpc_server import GrpcServer
from gpuserve_images.verify.http_server import HttpServer
from gpuserve_images.verify.in_process import InProcess, distinct_batches
from gpuserve_images.verify.load import LoadError, Pace, measure_point, measure_points
from gpuserve_images.verify.load_point import LoadPoint
from gpuserve_images.verify.remote import Remote
from gpuserve_images.verify.spec import GenerateSpec, SloSpec

QUICK = Pace(warm_up=0.0, seconds=0.05, at_least=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture(scope="module")
def requests(model):
    return generate(Session(model).signature, GenerateSpec(count=16))


def test_callers_hold_few_batches_where_they_are_large(requests, monkeypatch):
    assert [len(batch["x"]) for batch in distinct_batches(requests, 2)] == [2] * 8
    monkeypatch.setattr("gpuserve_images.verify.in_process.ENOUGH_BYTES", 0)
    assert len(distinct_batches(requests, 2)) == 2


class Sleeper:
    """Answers after a known time; counts who is connected."""

    where = "a test"
    cores = None

    def __init__(self, seconds, *, fail=lambda _: False):
        self.seconds, self.fail = seconds, fail
        self.connected = self.most = self.calls = 0

    @contextmanager
    def connect(self, batch):
        self.connected += 1
        self.most = max(self.most, self.connected)

        def call():
            self.calls += 1
            if self.fail(self.calls):
                raise LoadError("a test", "failed", "Do not.")
            self.sleep()

        try:
            yield call
        finally:
            self.connected -= 1

    def sleep(self):
        time.sleep(self.seconds)


class Simulated(Sleeper):
    """A callee in simulated time, of which every caller has its own: who is earliest goes first. First calls cost nothing.

    With `queue` it answers one request at a time; the first `stalled` callers wait a second for each answer.
    """

    def __init__(self, monkeypatch, seconds, *, queue=False, stalled=0):
        super().__init__(seconds)
        self.queue, self.stalled, self.free = queue, stalled, 0.0
        self.times, self.stall, self.turn = {}, set(), threading.Condition()
        monkeypatch.setattr("gpuserve_images.verify.load.time.perf_counter", lambda: self.times[threading.get_ident()])

    @contextmanager
    def connect(self, batch):
        caller = threading.get_ident()
        with self.turn:
            if len(self.times) < self.stalled:
                self.stall.add(caller)
            self.times[caller] = 0.0
        first = iter([True])
        try:
            with super().connect(batch) as call:
                yield lambda: None if next(first, False) else call()
        finally:
            with self.turn:
                del self.times[caller]
                self.turn.notify_all()

    def sleep(self):
        caller = threading.get_ident()
        with self.turn:
            begin = max(self.free, self.times[caller]) if self.queue else self.times[caller]
            self.free = self.times[caller] = begin + (1.0 if caller in self.stall else self.seconds)
            self.turn.notify_all()
            self.turn.wait_for(lambda: self.times[caller] == min(self.times.values()))


def test_the_figures_are_those_of_a_known_delay(monkeypatch):
    point = measure_point(Simulated(monkeypatch, 0.01), 4, 1, Pace(0.0, 0.2, 3))
    assert [point.min_ms, point.median_ms, point.p95_ms, point.p99_ms, point.max_ms, point.std_ms] == [10, 10, 10, 10, 10, 0]
    assert (point.requests_per_second, point.samples_per_second, point.errors) == (100, 400, 0)


def test_callers_work_at_the_same_time_and_a_queue_shows_as_latency(monkeypatch):
    free, queued = (measure_point(Simulated(monkeypatch, 0.01, queue=queue), 1, 4, Pace(0.0, 1, 3)) for queue in (False, True))
    assert (free.requests_per_second, free.median_ms) == (400, 10)
    assert (queued.requests_per_second, queued.median_ms) == (pytest.approx(100, rel=0.05), 40)


def test_a_slow_callee_is_measured_with_the_least_number_of_requests(monkeypatch):
    callee = Simulated(monkeypatch, 0.03)
    assert measure_point(callee, 1, 2, Pace(0.0, 0.001, 3)).requests == 6
    assert (callee.most, callee.connected) == (2, 0)


@pytest.mark.parametrize("stalled", [0, 1])
def test_one_slow_answer_makes_no_server_slow_that_answers_the_others(monkeypatch, stalled):
    point = measure_point(Simulated(monkeypatch, 0.01, stalled=stalled), 1, 4, Pace(0.0, 0.2, 1))
    assert point.max_ms == (1000 if stalled else 10)
    assert point.requests_per_second == pytest.approx(100 * (4 - stalled), rel=0.02)


def test_warm_up_does_not_count(monkeypatch):
    callee = Simulated(monkeypatch, 0.01)
    point = measure_point(callee, 1, 1, Pace(0.095, 0.015, 1))
    assert (callee.calls, point.requests) == (12, 2)


def test_failed_requests_are_counted_and_are_no_capacity():
    point = measure_point(Sleeper(0.001, fail=lambda call: call % 5 == 0), 1, 1, Pace(0.0, 0.05, 20))
    assert point.errors >= 3
    capacity = Capacity.of([point], None, where="a test")
    assert (capacity.at_slo, capacity.requests_at_slo) == (None, None)


def test_a_failure_in_the_warm_up_or_in_every_request_is_the_answer():
    with pytest.raises(LoadError, match=r"a test: failed\. Fix: Do not"):
        measure_point(Sleeper(0.001, fail=lambda _: True), 1, 3, QUICK)
    with pytest.raises(LoadError, match="a test: failed"):
        measure_point(Sleeper(0.001, fail=lambda call: call > 1), 1, 1, QUICK)


def test_a_refusal_in_the_warm_up_counts_and_ends_nothing():
    warm = Sleeper(0.001, fail=lambda call: call == 2)
    assert measure_point(warm, 1, 1, Pace(0.02, 0.02, 3)).errors == 1
    others = Sleeper(0.01, fail=lambda call: call == 1)
    assert measure_point(others, 1, 3, QUICK).errors == 1


def test_a_later_point_without_an_answer_costs_none_before_it():
    last = {"name": ""}
    callee = Sleeper(0.001, fail=lambda _: last["name"].endswith("concurrency 2"))
    found = measure_points(callee, (1, 4), (1, 2), QUICK, lambda name, *_: last.update(name=name))
    assert [(point.batch, point.concurrency, point.errors) for point in found.points] == [(1, 1, 0), (4, 1, 0)]
    assert [note.partition(": a test")[0] for note in found.notes] == [
        f"batch {batch}, concurrency 2: no request was answered" for batch in (1, 4)
    ]
    with pytest.raises(LoadError, match="a test: failed"):
        measure_points(Sleeper(0.001, fail=lambda _: True), (1,), (1, 2), QUICK, lambda *_: None)


def test_one_refusal_in_a_later_warm_up_is_an_error_of_that_point():
    calls = {"of": ""}

    def fail(_):
        fails, calls["of"] = calls["of"] == "batch 1, concurrency 2", ""
        return fails

    def tell(name, *_):
        calls["of"] = name

    found = measure_points(Sleeper(0.001, fail=fail), (1,), (1, 2), QUICK, tell)
    assert ([point.errors for point in found.points], found.notes) == ([0, 1], ())


def test_an_interrupt_ends_every_caller_first():
    callee = Sleeper(0.01)
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        measure_point(callee, 1, 4, Pace(0.0, 30, 3))
    assert callee.connected == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("caller-")]


def test_in_process(model, requests):
    callee = InProcess(Session(model), requests)
    points = measure_points(callee, (1, 8), (1, 2), QUICK, lambda *_: None).points
    assert [(point.batch, point.concurrency) for point in points] == [(1, 1), (1, 2), (8, 1), (8, 2)]
    assert "ONNX Runtime" in callee.where


def test_a_model_that_fails_is_an_error_with_a_fix(model, requests):
    wrong = [{"x": request["x"][:, :3]} for request in requests]
    with pytest.raises(LoadError, match=r"in process.*failed while it was measured.*Fix: "):
        measure_point(InProcess(Session(model), wrong), 1, 2, QUICK)


@pytest.mark.parametrize("binary", [True, False])
def test_over_http(model, requests, binary):
    with http_server(Session(model), binary=binary) as (url, got):
        server = HttpServer(Remote(url, NAME, host="small.example.com"))
        assert server.signature().inputs == Session(model).signature.inputs
        point = measure_point(server.sending(requests), 4, 2, QUICK)
    assert point.requests >= 6
    assert ("binary" in server.where) == binary
    assert {request["host"] for request in got} == {"small.example.com"}
    assert {tuple(request["head"]["inputs"][0]["shape"]) for request in got} == {(4, 8)}
    # Every caller keeps its own connection.
    assert len({request["client"] for request in got}) == 2


def test_over_grpc(model, requests):
    with grpc_server(Session(model)) as (url, got):
        server = GrpcServer(Remote(url, NAME))
        assert server.signature().inputs == Session(model).signature.inputs
        point = measure_point(server.sending(requests), 4, 2, QUICK)
    assert (point.errors, set(got)) == (0, {4})
    assert len(got) >= point.requests >= 6


def test_refusals_of_a_server_are_counted_with_its_words(model, requests):
    with http_server(Session(model), fail=lambda number: number % 3 == 0) as (url, _):
        assert measure_point(HttpServer(Remote(url, NAME)).sending(requests), 1, 1, QUICK).errors >= 1
    with http_server(Session(model), fail=lambda _: True) as (url, _):
        server = HttpServer(Remote(url, NAME)).sending(requests)
        with pytest.raises(LoadError, match=r"model small at http.*answered HTTP 503 \(.*too busy"):
            measure_point(server, 1, 1, QUICK)


class TestAddresses:
    @pytest.mark.parametrize("url", ["", "http://", "ftp://host/x", "http://host:99999", "http://[::1"])
    def test_nonsense_is_refused(self, url):
        with pytest.raises(LoadError, match=r"--url.*is no address of an inference server"):
            Remote(url, NAME)

    def test_a_password_is_in_no_report(self):
        remote = Remote("https://me:secret@host:8/v", NAME)
        assert remote.named == "model small at https://host:8/v"

    @pytest.mark.parametrize(("make", "url"), [(HttpServer, "http://127.0.0.1:1"), (GrpcServer, "grpc://127.0.0.1:1")])
    def test_nobody_there(self, make, url):
        with pytest.raises(LoadError, match=r"gave no answer .*Fix: See that the server runs"):
            make(Remote(url, NAME, timeout=5))

    def test_the_wrong_scheme_for_the_protocol(self):
        with pytest.raises(LoadError, match=r"is no HTTP address.*--protocol grpc"):
            HttpServer(Remote("grpc://127.0.0.1:1", NAME))
        with pytest.raises(LoadError, match=r"is no address for gRPC.*8001"):
            GrpcServer(Remote("http://127.0.0.1:1", NAME))

    def test_another_model(self, model):
        with http_server(Session(model)) as (url, _), pytest.raises(LoadError, match="HTTP 404 to /v2/models/other"):
            HttpServer(Remote(url, "other"))
        with grpc_server(Session(model)) as (url, _), pytest.raises(LoadError, match=r"NOT_FOUND \(no such model\)"):
            GrpcServer(Remote(url, "other"))

    @pytest.mark.parametrize(
        ("metadata", "words"),
        [
            ({"inputs": []}, "does not say which inputs it takes"),
            ({"inputs": [{"name": "x", "datatype": "BF16", "shape": [1]}]}, "inputs of type BF16"),
            ({"inputs": [{"name": "x"}]}, "not protocol v2"),
            ([], "something else than JSON"),
        ],
    )
    def test_metadata_that_says_too_little(self, model, metadata, words):
        with http_server(Session(model), metadata=metadata) as (url, _), pytest.raises(LoadError, match=words):
            HttpServer(Remote(url, NAME)).signature()


def point(batch, concurrency, rate, p95, errors=0):
    latency = dict.fromkeys(("mean_ms", "median_ms", "p99_ms", "min_ms", "max_ms", "std_ms"), 1.0)
    return LoadPoint(
        batch=batch,
        concurrency=concurrency,
        requests=9,
        errors=errors,
        seconds=1,
        requests_per_second=rate,
        samples_per_second=rate * batch,
        p95_ms=p95,
        **latency,
    )


class TestCapacity:
    POINTS = (point(1, 1, 100, 9), point(1, 4, 300, 40), point(1, 8, 350, 60), point(8, 1, 60, 45), point(32, 1, 20, 70))

    @pytest.mark.parametrize(
        ("limit", "samples", "requests"),
        [("50ms", 480, 300), ("10ms", 100, 100), ("1ms", None, None), ("60ms", 480, 350), ("100ms", 640, 350)],
    )
    def test_is_the_largest_throughput_that_keeps_the_promise(self, limit, samples, requests):
        capacity = Capacity.of(self.POINTS, SloSpec.parse({"latency_p95": limit}), where="a test")
        assert (capacity.at_slo, capacity.requests_at_slo) == (samples, requests)

    def test_without_a_promise_is_the_largest_throughput(self):
        capacity = Capacity.of(self.POINTS, None, where="a test")
        assert (capacity.at_slo, capacity.requests_at_slo, capacity.latency_p95_ms) == (640, 350, None)

    def test_is_measured_on_every_batch_size_and_with_more_callers(self, model, requests, monkeypatch):
        monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.05)
        for place in ("capacity", "in_process"):
            monkeypatch.setattr(f"gpuserve_images.verify.{place}.cores", lambda: 2)
        capacity = measure_capacity(InProcess(Session(model), requests), (1, 8), SloSpec.parse({"latency_p95": "10s"}))
        assert [(point.batch, point.concurrency) for point in capacity.points] == [(1, 1), (8, 1), (1, 2), (1, 4)]
        assert capacity.requests_at_slo == max(point.requests_per_second for point in capacity.points if point.batch == 1)
        assert capacity.latency_p95_ms == 10_000
        assert capacity.cores == 2
        impossible = measure_capacity(InProcess(Session(model), requests), (1,), SloSpec.parse({"latency_p95": "0.0001ms"}))
        assert (impossible.at_slo, impossible.requests_at_slo) == (None, None)

    def test_concurrencies_double(self):
        assert [doubling(most) for most in (0, 1, 4, 7)] == [(1,), (1,), (1, 2, 4), (1, 2, 4)]


def test_statistics_are_those_of_numpy(monkeypatch):
    taken = iter(np.cumsum([0.0, *np.arange(1, 101) / 1000]))
    clock = {"now": 0.0}

    class Callee(Sleeper):
        @contextmanager
        def connect(self, batch):
            def call():
                clock["now"] = float(next(taken))

            yield call

    monkeypatch.setattr("gpuserve_images.verify.load.time.perf_counter", lambda: clock["now"])
    result = measure_point(Callee(0), 1, 1, Pace(0.0, 0.0, 100))
    assert (result.requests, result.min_ms, result.max_ms, result.mean_ms) == (100, 1.0, 100.0, 50.5)
    assert (result.median_ms, result.p95_ms, result.p99_ms, result.std_ms) == (50.5, 95.05, 99.01, 28.866)
    assert result.seconds == 5.05
