"""What people write after `gpuserve bench`, read into values; each error names the option, the value and what to write."""

from collections.abc import Sequence
from typing import Any

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve.kubernetes.units import Duration

MOST_CALLERS = 1024
"""Callers are threads; more of them than this measure the client, not the server."""


class BenchError(GpuserveError):
    """A benchmark was asked for that cannot be run."""

    def __init__(self, option: str, value: object, reason: str, fix: str) -> None:
        given = "" if value is None else f" = {value!r}"
        super().__init__(f"{option}{given}: {reason}. Fix: {fix}")


def counts(option: str, text: str, most: int | None = None) -> tuple[int, ...]:
    """Read `1,2,4` as increasing whole numbers from 1 to `most`, each once.

    Raises:
        BenchError: When it is something else.
    """
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise BenchError(option, text, "is not a list of whole numbers", f"write for example `{option} 1,2,4,8`") from error
    if numbers[0] < 1 or (most is not None and numbers[-1] > most):
        limits = "at least 1" if most is None else f"from 1 to {most}"
        raise BenchError(option, text, f"has a number that is not {limits}", f"write for example `{option} 1,2,4,8`")
    return tuple(numbers)


def duration(option: str, text: str, *, zero: bool = False) -> Duration:
    """Read a length of time.

    Raises:
        BenchError: When it is none, or zero where that makes no sense.
    """
    try:
        value = Duration(text)
    except ValueError as error:
        raise BenchError(option, text, "is not a length of time", f"write for example `{option} 3s` or `500ms`") from error
    if value.seconds == 0 and not zero:
        raise BenchError(option, text, "is no time at all", f"write for example `{option} 3s`")
    return value


def shapes(texts: Sequence[str]) -> dict[str, list[int]]:
    """Read `input=3,224,224`, or `input=3x224x224`, as dimensions by input.

    Raises:
        BenchError: When one is something else.
    """
    found: dict[str, list[int]] = {}
    for text in texts:
        name, sign, sizes = text.rpartition("=")
        if not sign or not name:
            raise BenchError("--shape", text, "names no input and its sizes", "write for example `--shape input_ids=128`")
        found[name] = list(_sizes(text, sizes))
    return found


def ranges(texts: Sequence[str]) -> dict[str, Any]:
    """Read `input=0:255` as least and largest value by input.

    Raises:
        BenchError: When one is something else.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, bounds = text.rpartition("=")
        low, colon, high = bounds.partition(":")
        try:
            if not (name and sign and colon):
                raise ValueError  # noqa: TRY301 - one sentence for everything that is wrong here
            found[name] = (float(low), float(high))
        except ValueError as error:
            raise BenchError(
                "--range", text, "names no input with its bounds", "write for example `--range ids=0:30521`"
            ) from error
    return found


def _sizes(text: str, sizes: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(size) for size in sizes.replace("x", ",").split(","))
    except ValueError as error:
        raise BenchError(
            "--shape", text, "has a size that is no whole number", "write for example `--shape input=3,224,224`"
        ) from error
    if min(numbers) < 1:
        raise BenchError("--shape", text, "has a size below 1", "write for example `--shape input=3,224,224`")
    return numbers
