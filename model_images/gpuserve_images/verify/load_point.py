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
        seconds: Length of the measurement.
        requests_per_second: Answered requests per second.
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
    def of(cls, taken: Sequence[float], *, batch: int, concurrency: int, errors: int, seconds: float) -> Self:
        """Return the figures of a measurement.

        Args:
            taken: Seconds that each answered request took; at least one.
            batch: Samples per request.
            concurrency: Callers at the same time.
            errors: Requests that were not answered.
            seconds: Length of the measurement.
        """
        import numpy as np

        latency = np.array(taken) * 1e3
        median, p95, p99 = (round(float(value), 3) for value in np.percentile(latency, [50, 95, 99]))
        rate = len(latency) / seconds
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
