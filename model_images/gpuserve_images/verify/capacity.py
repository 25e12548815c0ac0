"""What one replica can answer: measured points of load, and the most of it that keeps the promised latency.

Timings are not reproducible, so a capacity is never part of an image: it is attached to it (see `attached`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Self

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.records import Progress, silent
from gpuserve_images.verify.load import Callee, Pace, measure_point
from gpuserve_images.verify.load_point import LoadPoint
from gpuserve_images.verify.processor import cores
from gpuserve_images.verify.spec import SloSpec

BUDGET = 1.5
"""Seconds for all points of a build together: enough for a first guess at scaling, too short to slow a build."""

MIN_RUNS = 3
"""Requests per caller that a slow model is measured with all the same."""


class Capacity(Spec):
    """Measured speed of a build.

    Attributes:
        where: What was measured, and on what.
        cores: Cores of the measuring machine, where the model ran on that machine's processor.
        latency_p95_ms: The SLO's bound in milliseconds; None when there is none.
        at_slo: Samples per second of the best point whose p95 keeps the bound; None when no point does.
        requests_at_slo: Requests per second of the best such point with the smallest requests: what an autoscaler compares with
            the rate of requests. None when no such point keeps the bound.
        points: Everything that was measured.
        notes: What was to be measured and could not be.
    """

    where: str
    cores: int | None = None
    latency_p95_ms: float | None = None
    at_slo: float | None = None
    requests_at_slo: float | None = None
    points: tuple[LoadPoint, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        points: Iterable[LoadPoint],
        slo: SloSpec | None,
        *,
        where: str,
        cores: int | None = None,
        notes: Sequence[str] = (),
    ) -> Self:
        """Return the capacity that measured points show.

        Args:
            points: What was measured.
            slo: Its latency is the bound; None for no bound, so that the fastest point counts.
            where: What was measured.
            cores: Cores it ran on.
            notes: What could not be measured.
        """
        points = tuple(points)
        limit = limit_ms(slo)
        kept = [point for point in points if point.p95_ms <= limit and not point.errors]
        smallest = min((point.batch for point in points), default=1)
        return cls(
            where=where,
            cores=cores,
            latency_p95_ms=None if math.isinf(limit) else limit,
            at_slo=max((point.samples_per_second for point in kept), default=None),
            requests_at_slo=max((point.requests_per_second for point in kept if point.batch == smallest), default=None),
            points=points,
            notes=tuple(notes),
        )

    @property
    def bound_ms(self) -> float:
        """The bound in milliseconds, infinity without one."""
        return math.inf if self.latency_p95_ms is None else self.latency_p95_ms

    def at(self, slo: SloSpec) -> Self:
        """Return what the same points show at another SLO; without points, that nothing keeps it."""
        return self.of(self.points, slo, where=self.where, cores=self.cores, notes=self.notes)


def limit_ms(slo: SloSpec | None) -> float:
    """Return the SLO's p95 in milliseconds, or infinity."""
    return slo.latency_p95.seconds * 1e3 if slo and slo.latency_p95 else math.inf


def measure_capacity(callee: Callee, sizes: Sequence[int], slo: SloSpec | None, progress: Progress = silent) -> Capacity:
    """Time a model, within `BUDGET` seconds where it is quick enough.

    Every batch size is timed with one caller, and the smallest also with 2, 4, ... callers, up to twice the cores.

    Args:
        callee: The model in this process.
        sizes: Batch sizes to time.
        slo: Its latency bounds what counts as capacity; None for no bound.
        progress: Told before each point.

    Raises:
        LoadError: When the model cannot run.
    """
    wanted = [(size, 1) for size in sorted(sizes)]
    wanted += [(min(sizes), callers) for callers in doubling(2 * cores()) if callers > 1]
    share = BUDGET / len(wanted)
    pace = Pace(warm_up=share / 5, seconds=share * 4 / 5, at_least=MIN_RUNS)
    points: list[LoadPoint] = []
    for done, (size, callers) in enumerate(wanted):
        progress("capacity", done, len(wanted))
        # With more callers the latency only grows.
        if callers > 1 and points[-1].p95_ms > limit_ms(slo) and points[-1].batch == size:
            break
        points.append(measure_point(callee, size, callers, pace))
    progress("capacity", len(wanted), len(wanted))
    return Capacity.of(points, slo, where=callee.where, cores=callee.cores)


def doubling(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to `most`."""
    return tuple(2**power for power in range(max(1, most).bit_length()))
