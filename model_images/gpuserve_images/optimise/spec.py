"""What may be said about how a model is made smaller and faster."""

from typing import Literal

from pydantic import Field, StrictBool

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.samples.spec import Samples

Precision = Literal["fp32", "fp16", "int8", "int8-dynamic"]
"""`fp16`: half precision where it is safe, the rest and all inputs and outputs as they were. `int8`: static Q/DQ, for CPUs dynamic
where parity demands it. `int8-dynamic`: ranges found anew for each request; ONNX Runtime on CPUs only."""

OptimiseLevel = Literal["auto", "none", "basic", "extended"]
CalibrationMethod = Literal["percentile", "minmax", "entropy"]


class CalibrateSpec(Spec):
    """How value ranges are measured for static INT8.

    Attributes:
        inputs: Samples to measure on. A file that is also a verification sample is used for one of the two only.
        method: How outliers are treated. Default `percentile`: min-max lets one outlier coarsen a whole tensor.
        percentile: Share of values, in percent, that the range must cover. Default 99.999, ONNX Runtime's own.
        keep_head: Leave the layers that make the outputs in fp32. Default true: they are little of the arithmetic and most of
            the loss.
    """

    inputs: Samples
    method: CalibrationMethod = "percentile"
    percentile: float = Field(default=99.999, gt=50, le=100, strict=True)
    keep_head: StrictBool = True


def calibration(value: object) -> object:
    """Read samples alone as a whole `CalibrateSpec`."""
    return {"inputs": value} if isinstance(value, str | list | tuple) else value
