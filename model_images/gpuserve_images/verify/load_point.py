"""What callers saw at one batch size and one concurrency."""

from collections.abc import Sequence
from typing import Self

from gpuserve.kubernetes.spec import Spec


class LoadPoint(Spec):
    """What so many callers saw.

    Attributes:
        batch: Samples per request.
        concurrency: Callers at the same time; 1 is sequential.
        requests: Requests that were answered.
        errors: Requests that were not, in the warm-up too.
        seconds: How long all callers were at work.
        requests_per_second: Answered requests per second of that time.
        samples_per_second: The same, times the batch.
        mean_ms: Mean latency in milliseconds.
        median_ms: Half of the requests took no longer.
        p95_ms: 95 of 100 took no longer.
        p99_ms: 99 of 100 took no longer.
        min_ms: The quickest.
        max_ms: The slowest.
        std_ms: Standard deviation.
    """

    batch: int
    concurrency: int
    requests: int
    errors: int = 0
    seconds: float
    requests_per_second: float
    samples_per_second: float
    mean_ms: float
    median_ms: float
    p95_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    std_ms: float

    @classmethod
    def of(
        cls,
        answers: Sequence[tuple[float, float]],
        *,
        batch: int,
        concurrency: int,
        errors: int,
        span: tuple[float, float],
    ) -> Self:
        """Return the figures of a measurement.

        Args:
            answers: When each answered request began and ended, in seconds; at least one.
            batch: Samples per request.
            concurrency: Callers at the same time.
            errors: Requests that were not answered.
            span: From when to when all callers were at work. Of a request that went on after it counts, for the rate, the part in it:
                a caller that still waits when the others are done makes no server slow that answered them.
        """
        import numpy as np

        begins, ends = np.array(answers).T
        latency = (ends - begins) * 1e3
        median, p95, p99 = (round(float(value), 3) for value in np.percentile(latency, [50, 95, 99]))
        start, end = span
        seconds = end - start
        inside = np.clip((end - begins) / np.maximum(ends - begins, 1e-9), 0, 1)
        rate = float(inside.sum()) / seconds
        return cls(
            batch=batch,
            concurrency=concurrency,
            requests=len(latency),
            errors=errors,
            seconds=round(seconds, 3),
            requests_per_second=round(rate, 2),
            samples_per_second=round(rate * batch, 2),
            mean_ms=round(float(latency.mean()), 3),
            median_ms=median,
            p95_ms=p95,
            p99_ms=p99,
            min_ms=round(float(latency.min()), 3),
            max_ms=round(float(latency.max()), 3),
            std_ms=round(float(latency.std()), 3),
        )
