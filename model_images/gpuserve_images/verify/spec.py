"""What may be said about how good a build must be."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import WHOLE, Duration, Percent
from gpuserve_images.samples.spec import Samples

FP32_SCALED_ERROR = 1e-4
"""Bar of an fp32 build that states none: room for fused arithmetic, none for a changed model. FP32 rounds each value by up to 2**-24 of it,
so what is left depends on how large the values are: it is 1e-4 of scores up to 1, and 30 of prices up to 300,000."""

FP16_COSINE = 0.9999
"""Bar of an fp16 build that states none. FP16 rounds each value by up to 2**-11 (0.05 percent); a network of hundreds of layers then stays
within a cosine of 0.999999, while 0.9999 is an error of 1.4 percent of the output's length, which only overflow and lost constants make. It
has no unit, so it fits every output; that of a single number per request is taken over all samples, and a model with one says `max_abs_error`
in its own units besides."""

TF32_COSINE = FP16_COSINE
"""Bar of the engines of an fp32 build that states none, on their GPU: TF32 keeps as many bits of what is multiplied as FP16 does (10)."""

LARGEST_SEED = 2**53 - 1
"""Pulumi keeps numbers as 64-bit floating point, which holds every whole number only up to this one (IEEE 754: 53 bits of precision): a
larger seed would arrive as another."""


def _bar(low: float, high: float, example: float) -> BeforeValidator:
    """Return what reads a bar: a finite number from `low` to `high`, above `low` where `high` is infinite, or `none`."""

    def read(value: Any) -> Any:
        if value is None or value == "none":
            return value
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            msg = (
                f"is no finite number, so it judges nothing; write a number such as {example:g}, or `none` to have no such bar"
            )
            raise ValueError(msg)
        if not low <= number <= high or (number == low and math.isinf(high)):
            wanted = f"above {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
            msg = f"is not {wanted}; write a number such as {example:g}, or `none` to have no such bar"
            raise ValueError(msg)
        return number

    number: Any = Annotated[float, Field(gt=low) if math.isinf(high) else Field(ge=low, le=high)]
    return BeforeValidator(read, json_schema_input_type=number | Literal["none"] | None)


Share = Annotated[float | Literal["none"] | None, _bar(0, 1, 0.99)]
Distance = Annotated[float | Literal["none"] | None, _bar(0, math.inf, 0.01)]
Cosine = Annotated[float | Literal["none"] | None, _bar(-1, 1, 0.999)]


class BarsSpec(Spec):
    """How near to the source model a build must stay; unset bars do not judge.

    A bar may be `none`: then it does not judge either, whatever the model or the default of the precision says.

    Attributes:
        top1_agreement: Least share (0 to 1) of samples whose largest output is the same class, and whose labels (text, or a single
            whole number per sample) are equal. Labels must all be equal where this is not set.
        top5_agreement: Least share (0 to 1) of samples whose source's class is among the build's five largest outputs; for outputs
            of more than five classes.
        max_abs_error: Largest difference of any output value that is no label.
        scaled_error: The same as a share of the largest value that the source gives in that output, where this is more than 1 or the
            difference over a tenth of it; of whole numbers always the difference itself. The default of fp32 builds, 1e-4, unless
            `max_abs_error` is stated.
        max_rel_error: Largest difference of any output value that is no label, as a share of that value (of values that matter, see `verify`).
        cosine: Least cosine similarity of any sample's output vector; of an output with a single number per sample that of all
            samples together.
    """

    top1_agreement: Share = None
    top5_agreement: Share = None
    max_abs_error: Distance = None
    scaled_error: Distance = None
    max_rel_error: Distance = None
    cosine: Cosine = None

    def over(self, base: "BarsSpec") -> "BarsSpec":
        """Return these bars, with those of `base` where these say nothing."""
        fields = BarsSpec.model_fields
        own = {name: getattr(self, name) for name in fields}
        return BarsSpec(**{name: getattr(base, name) if value is None else value for name, value in own.items()})

    def stated(self) -> dict[str, float]:
        """Return the bars that judge, by name."""
        return {name: value for name in BarsSpec.model_fields if (value := getattr(self, name)) not in {None, "none"}}


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not all(math.isfinite(edge) for edge in value):
        msg = "has an edge that is no finite number; write [least, largest], such as [0, 1]"
        raise ValueError(msg)
    if value[0] > value[1]:
        msg = f"ends at {value[1]:g} before it starts at {value[0]:g}; write [least, largest]"
        raise ValueError(msg)
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Least and largest value of an input, both included."""


class GenerateSpec(Spec):
    """How inputs are made up where there are no samples.

    Attributes:
        count: Requests to make. Default 32; one that disagrees is then three percent.
        seed: Start of the random numbers. Default 0. The same seed gives the same inputs on any machine.
        ranges: Least and largest value by input. Default, by type: -1 to 1 for real numbers; all values of 8-bit integers; for
            wider ones 0 up to the size of the table or one-hot code that the model looks them up in, else 0 and 1 (a mask).
        shapes: Dimensions behind the batch axis by input (all of them with `batch: none`); required for inputs that leave one of them
            open, such as a text's length.
    """

    count: Annotated[int, Field(ge=1, le=100_000, strict=True), WHOLE] = 32
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True), WHOLE] = 0
    ranges: Mapping[str, Range] = {}
    shapes: Mapping[str, tuple[Annotated[int, Field(ge=1, strict=True), WHOLE], ...]] = {}


class VerifySpec(BarsSpec):
    """The inputs that every build is compared with its source on, and the bars of all builds.

    Attributes:
        inputs: Real samples. Default: generated inputs.
        generate: How inputs are generated when there are no samples.
        classes: Outputs whose last axis holds one number for each class, for `top1_agreement` and `top5_agreement`. Default: those
            of real numbers with the shape [samples, classes]. Labels always count.
        batches: Batch sizes to compare at. Default: 1, the preferred ones and the largest.
    """

    inputs: Samples | None = None
    generate: GenerateSpec | None = None
    classes: tuple[str, ...] = ()
    batches: tuple[Annotated[int, Field(ge=1, strict=True), WHOLE], ...] = ()

    @model_validator(mode="after")
    def _one_kind_of_inputs(self) -> Self:
        if self.inputs is not None and self.generate is not None:
            msg = "names samples and generates inputs too; keep `inputs:` (real samples judge better), or `generate:`"
            raise ValueError(msg)
        return self

    @property
    def generated(self) -> GenerateSpec | None:
        """How inputs are made up, or None where there are samples."""
        return None if self.inputs is not None else self.generate or GenerateSpec()


class SloSpec(Spec):
    """What the service promises.

    Attributes:
        latency_p95: 95 of 100 requests are answered within this time.
        availability: Share of requests that are answered without an error.
    """

    latency_p95: Duration | None = None
    availability: Percent | None = None
