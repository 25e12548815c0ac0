"""What may be said about how good a build must be."""

from typing import Annotated

from pydantic import Field

from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import Duration, Percent
from gpuserve_images.samples.spec import Samples

FP32_MAX_ABS_ERROR = 1e-4
"""Bar of an fp32 build that states none: room for fused arithmetic, none for a changed model."""


class BarsSpec(Spec):
    """How near to the source model a build must stay; unset bars do not judge.

    Attributes:
        top1_agreement: Least share (0 to 1) of samples whose largest output is the same class.
        max_abs_error: Largest difference of any output value.
        max_rel_error: Largest difference of any output value, as a share of that value (of values that matter, see `verify`).
        cosine: Least cosine similarity of any sample's output vector.
    """

    top1_agreement: float | None = Field(default=None, ge=0, le=1)
    max_abs_error: float | None = Field(default=None, gt=0)
    max_rel_error: float | None = Field(default=None, gt=0)
    cosine: float | None = Field(default=None, ge=-1, le=1)

    def over(self, base: "BarsSpec") -> "BarsSpec":
        """Return these bars, with those of `base` where these say nothing."""
        fields = BarsSpec.model_fields
        own = {name: getattr(self, name) for name in fields}
        return BarsSpec(**{name: getattr(base, name) if value is None else value for name, value in own.items()})

    def stated(self) -> dict[str, float]:
        """Return the bars that judge, by name."""
        return {name: value for name in BarsSpec.model_fields if (value := getattr(self, name)) is not None}


class VerifySpec(BarsSpec):
    """The samples that every build is compared with its source on, and the bars of all builds.

    Attributes:
        inputs: Real samples.
        batches: Batch sizes to compare at. Default: 1, the preferred ones and the largest.
    """

    inputs: Samples
    batches: tuple[Annotated[int, Field(ge=1)], ...] = ()


class SloSpec(Spec):
    """What the service promises.

    Attributes:
        latency_p95: 95 of 100 requests are answered within this time.
        availability: Share of requests that are answered without an error.
    """

    latency_p95: Duration | None = None
    availability: Percent | None = None
