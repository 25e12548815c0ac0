"""What one replica can answer: a short measurement in process, for the report only (timings are not reproducible)."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.samples.codec import Tensors, batches
from gpuserve_images.verify.spec import SloSpec

BUDGET = 1.5
"""Seconds for all batch sizes together: enough for a first guess at scaling, too short to slow a build."""

MIN_RUNS = 5


class BatchTiming(Spec):
    """Latency of one batch size, in milliseconds, and the samples per second it gives."""

    batch: int
    p50_ms: float
    p95_ms: float
    samples_per_second: float


class Capacity(Spec):
    """Measured speed of a build on the building machine's processor.

    Attributes:
        timings: One per batch size.
        at_slo: Samples per second of the best batch size whose p95 keeps the SLO's latency; None when none does.
    """

    timings: tuple[BatchTiming, ...]
    at_slo: float | None


def measure_capacity(model: Path, samples: Sequence[Tensors], sizes: Sequence[int], slo: SloSpec | None) -> Capacity:
    """Time a model on samples.

    Args:
        model: The ONNX file.
        samples: Encoded samples.
        sizes: Batch sizes to time.
        slo: Its latency bounds `at_slo`. Default: no bound.
    """
    session = Session(model)
    timings = tuple(_time(session, samples, size, BUDGET / len(sizes)) for size in sizes)
    limit = slo.latency_p95.seconds * 1e3 if slo and slo.latency_p95 else float("inf")
    fitting = [timing.samples_per_second for timing in timings if timing.p95_ms <= limit]
    return Capacity(timings=timings, at_slo=max(fitting, default=None))


def _time(session: Session, samples: Sequence[Tensors], size: int, budget: float) -> BatchTiming:
    batch = next(batches(samples, size, whole=True))
    session.run(batch)
    taken: list[float] = []
    end = time.perf_counter() + budget
    while len(taken) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(batch)
        taken.append(time.perf_counter() - start)
    p50, p95 = (float(value) for value in np.percentile(taken, [50, 95]) * 1e3)
    return BatchTiming(
        batch=size, p50_ms=round(p50, 3), p95_ms=round(p95, 3), samples_per_second=round(size / (sum(taken) / len(taken)), 1)
    )
