"""What may be said about how a server runs a model."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import Duration


class BatchSpec(Spec):
    """How requests are joined into batches.

    Attributes:
        max: Largest batch. Default 32. Ignored by a model without a batch axis.
        preferred: Batch sizes worth waiting for. Default: 8, or the largest where that is smaller.
        queue_delay: Longest that a request waits for company. Default 1ms: far below common latency targets.
    """

    max: int = Field(default=32, ge=1, le=65536)
    preferred: tuple[Annotated[int, Field(ge=1)], ...] = ()
    queue_delay: Duration = Duration("1ms")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(size > self.max for size in self.preferred):
            msg = f"prefers {list(self.preferred)} above the largest batch {self.max}; raise `max` or lower `preferred`"
            raise ValueError(msg)
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The preferred batch sizes, ascending."""
        return tuple(sorted(set(self.preferred))) or (min(8, self.max),)
