"""Values with units: they accept what people write and print it back the same way."""

import re
from functools import total_ordering
from typing import Annotated, Any, ClassVar, Self
from unicodedata import normalize

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gpuserve.kubernetes.spec import known_at_plan_time


@total_ordering
class Quantity:
    """A number with a unit that remembers how it was written.

    Attributes:
        noun: What a wrong value is said not to be, with its article.
        units: What each unit is worth; the empty one stands for a bare number.
        example: One that is right.
        json_pattern: The written form, for editors.
        words: Units as people write them elsewhere, as patterns of lower-case words, and what they mean here.
    """

    noun: ClassVar[str]
    units: ClassVar[dict[str, float]]
    example: ClassVar[str]
    json_pattern: ClassVar[str]
    words: ClassVar[dict[str, str]] = {}

    def __init__(self, text: str | float) -> None:
        self.text = str(text).strip()
        self.amount = self._read(self.text)

    @classmethod
    def _read(cls, text: str) -> float:
        names = "|".join(sorted((re.escape(unit) for unit in cls.units), key=len, reverse=True))
        if not re.fullmatch(cls.json_pattern, text):
            known = ", ".join(unit or "(none)" for unit in cls.units)
            msg = f"is not {cls.noun} (units: {known}); write for example {cls.meant(text)}"
            raise ValueError(msg)
        parts = re.findall(rf"([0-9]+(?:\.[0-9]+)?)({names})", text)
        return sum(float(number) * cls.units[unit] for number, unit in parts)

    @classmethod
    def meant(cls, text: str, example: str = "") -> str:
        """Return what to write in place of `text`, which is wrong: its own number where there is one, for advice is followed.

        Args:
            text: What was written.
            example: One that is right in its place; a bare number gets its unit. Default: the class's.
        """
        example = example or cls.example
        # Keyboards of East Asia write digits and letters in a width of their own too.
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", normalize("NFKC", text).strip())
        if found is None:
            return example
        number, word = found.groups()
        named = (unit for pattern, unit in cls.words.items() if re.fullmatch(pattern, word.lower()))
        unit = re.sub(r"[0-9.]", "", example) if not word else word if word in cls.units else next(named, None)
        return example if unit is None else f"{number}{unit}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.amount == other.amount

    def __lt__(self, other: Self) -> bool:
        return self.amount < other.amount

    def __hash__(self) -> int:
        return hash((type(self), self.amount))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate from text, number or an instance; serialise as the text that was written."""

        def validate(value: object) -> Self:
            known_at_plan_time(value)
            if isinstance(value, cls):
                return value
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                msg = f"is not {cls.noun}; write for example {cls.example}"
                raise ValueError(msg)
            return cls(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> dict[str, Any]:
        """Describe the written form, so that editors can check it."""
        text = {"type": "string", "pattern": cls.json_pattern, "examples": [cls.example]}
        return {"anyOf": [text, {"type": "number", "minimum": 0}]} if "" in cls.units else text


class Duration(Quantity):
    """A length of time, such as ``10ms``, ``300s``, ``1h30m``; ``amount`` is in seconds."""

    noun: ClassVar = "a length of time"
    units: ClassVar = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    example: ClassVar = "300s"
    json_pattern: ClassVar = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
    words: ClassVar = {"milli.*|msecs?": "ms", "secs?|seconds?": "s", "mins?|minutes?": "m", "hrs?|hours?": "h", "days?": "d"}

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.amount

    @property
    def whole_seconds(self) -> int:
        """The duration in seconds, rounded up, at least 1: what Kubernetes integer fields take."""
        return max(1, -int(-self.amount // 1))


class Bytes(Quantity):
    """A size as Kubernetes writes it, such as ``512Mi`` or ``16Gi``; ``amount`` is in bytes.

    Units are those of Kubernetes resource quantities; ``Gb`` and ``GB`` are no such unit.
    """

    noun: ClassVar = "a size"
    units: ClassVar = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    example: ClassVar = "16Gi"
    json_pattern: ClassVar = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
    words: ClassVar = {"kb|kib?": "Ki", "m|mb|mib?": "Mi", "g|gb|gib?": "Gi", "t|tb|tib?": "Ti"}


class Cpu(Quantity):
    """Processor time as Kubernetes writes it, such as ``100m`` or ``2``; ``amount`` is in cores."""

    noun: ClassVar = "an amount of processors"
    units: ClassVar = {"": 1, "m": 0.001}
    example: ClassVar = "500m"
    json_pattern: ClassVar = r"^[0-9]+(\.[0-9]+)?m?$"


class Percent(Quantity):
    """A share from 0 to 100, written ``20`` or ``99.9%``; ``amount`` is in percent."""

    noun: ClassVar = "a share in percent"
    units: ClassVar = {"": 1, "%": 1}
    example: ClassVar = "99.9%"
    json_pattern: ClassVar = r"^[0-9]+(\.[0-9]+)?%?$"

    def __init__(self, text: str | float) -> None:
        super().__init__(text)
        if self.amount > 100:  # noqa: PLR2004 - the definition of percent
            msg = "is over 100 percent; write a share from 0 to 100, for example 20"
            raise ValueError(msg)

    @property
    def fraction(self) -> float:
        """The share as a number from 0 to 1."""
        return self.amount / 100


GpuCount = Annotated[int, BeforeValidator(known_at_plan_time), Field(ge=0, le=100_000, strict=True)]
"""A whole number of GPUs: Kubernetes refuses fractions of an extended resource."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands behind a strict `int` in what Pulumi's engine hands on, which gives whole numbers back as floats; 1.5, "1" and True are none."""
