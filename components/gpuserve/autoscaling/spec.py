"""What you may say about scaling."""

import math
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, field_validator, model_validator

from gpuserve.kubernetes.outputs import is_output
from gpuserve.kubernetes.spec import Spec, known_at_plan_time
from gpuserve.kubernetes.units import Duration
from gpuserve.kubernetes.values import ScaleTarget

Replicas = Annotated[int, BeforeValidator(known_at_plan_time), Field(ge=1, le=10_000, strict=True)]
"""A number of replicas; scaling to zero would need somebody who holds the first request."""

Rate = Annotated[float, Field(ge=0.001, allow_inf_nan=False, strict=True), BeforeValidator(known_at_plan_time)]
"""Requests per second that can be scaled on: the custom metrics API counts in thousandths."""

LONGEST_WINDOW = 3600
"""Seconds: the API server refuses longer stabilisation windows."""


API_VERSIONS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1"}
"""Kinds of workloads that can be scaled."""


def _resolvable(value: Duration) -> Duration:
    if value.seconds < 0.001:  # noqa: PLR2004 - the custom metrics API counts in thousandths
        msg = "is below 1ms, the resolution of the custom metrics API; set at least 1ms"
        raise ValueError(msg)
    return value


def _allowed(value: Duration) -> Duration:
    if value.seconds > LONGEST_WINDOW:
        msg = f"is over {LONGEST_WINDOW} s, the most that a HorizontalPodAutoscaler takes; set at most 1h"
        raise ValueError(msg)
    return value


QueueTime = Annotated[Duration, AfterValidator(_resolvable)]
"""An average time in the queue that can be scaled on."""

ScaleDownWindow = Annotated[Duration, AfterValidator(_allowed)]
"""How long less must have been enough before replicas go."""


NO_RATE = "is no number of requests per second above 0"
MEASURED_ONE = "pass what was measured, for example `image.capacity`"


def is_rate(value: object) -> bool:
    """Whether `value` can be a number of requests per second that somebody measured."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _rate_or_output(value: Any) -> object:
    if is_output(value):
        return value
    if not is_rate(value):
        msg = f"{NO_RATE}; {MEASURED_ONE}"
        raise ValueError(msg)
    return float(value)


MeasuredRate = Annotated[Any, PlainValidator(_rate_or_output, json_schema_input_type=float)]
"""Requests per second that were measured; a leaf that may be known later, as an Output of a number."""


class AutoscalerSpec(Spec):
    """Between how many replicas a workload scales, and on what.

    Attributes:
        target: The workload.
        min: Fewest replicas; default 1.
        max: Most replicas.
        queue_time: Add replicas while requests wait longer than this for a free instance, on average over a replica's
            requests; at least 1 ms, what the custom metrics API can resolve. Exactly one of this, ``qps`` and ``capacity``.
        qps: Add replicas while each answers more requests per second than this.
        capacity: Requests per second that one replica was measured to answer within its SLO (`ModelImage.capacity`): add replicas
            while each answers more than 80 % of it. May be an Output; one that resolves to nothing is refused.
        scale_down_window: How long less must have been enough before replicas go; default 300 s, Kubernetes' own default. With
            ``queue_time`` a tenth of them, or one, goes per window: a short queue does not say how many would be enough.
    """

    target: ScaleTarget
    min: Replicas = 1
    max: Replicas
    queue_time: QueueTime | None = None
    qps: Rate | None = None
    capacity: MeasuredRate | None = None
    scale_down_window: ScaleDownWindow = Duration("300s")

    @field_validator("target")
    @classmethod
    def _scalable(cls, value: ScaleTarget) -> ScaleTarget:
        if value.kind not in API_VERSIONS:
            msg = f"is a {value.kind}, which has no replicas to set; use one of {', '.join(API_VERSIONS)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.max < self.min:
            msg = f"has max {self.max} below min {self.min}; set max to at least {self.min} or lower min"
            raise ValueError(msg)
        given = [name for name in ("queue_time", "qps", "capacity") if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "neither queue_time nor qps nor capacity"
            msg = f"names {named}; give exactly one signal, for example `queue_time: 10ms`"
            raise ValueError(msg)
        return self
