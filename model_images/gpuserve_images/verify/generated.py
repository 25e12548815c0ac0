"""Made-up inputs: the same on any machine, within what the model's types and its own tables allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gpuserve.kubernetes.errors import suggestion
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.columns import Choice, whole_numbers
from gpuserve_images.verify.known import NOTHING, Known
from gpuserve_images.verify.sizes import FIELD, require_memory
from gpuserve_images.verify.spec import GenerateSpec

REAL_RANGE = (-1.0, 1.0)
"""Of real numbers: both signs, and the size that normalised inputs have."""

FLAG_RANGE = (0.0, 1.0)
"""Of integers that no table bounds: a mask, and inside any vocabulary."""

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
_WORD = 8
_LONGEST = 4
_CAPITALS = 0.25

_BLOCK = 2**20
"""Numbers that are made at once: on the way to their own type they need some 32 bytes each."""


def generate(
    signature: Signature,
    spec: GenerateSpec,
    known: Known = NOTHING,
    batch: int = 1,
) -> Sequence[Tensors]:
    """Return `spec.count` requests, each with a batch of 1, made anew whenever one is asked for: together they may need more than memory.

    Numbers are uniform over their range. They come from PCG64's raw output, which NumPy promises to keep, and not from its
    distributions, which may change from one release to the next: an image's own parity figures must not.

    Args:
        signature: The model's inputs.
        spec: Count, seed, ranges and shapes.
        known: What the model's file knows of its inputs; `spec.ranges` goes before. Default: nothing, texts are made-up words.
        batch: Most requests that will be joined. Default 1.

    Raises:
        SourceError: When the spec names no input of the model, a range does not fit its type, a dimension is not known, or the
            requests or their answers are larger than `verify.sizes` allows.
    """
    names = [tensor.name for tensor in signature.inputs]
    for field, given in (("ranges", spec.ranges), ("shapes", spec.shapes)):
        for name in given:
            if name not in names:
                raise SourceError(
                    f"{FIELD}.{field}", "names no input of the model", _sentence(suggestion(name, names)), value=name
                )
    _require_sizes(signature, spec)
    plans = tuple(_plan(tensor, spec, known, alone=signature.alone) for tensor in signature.inputs)
    require_memory(signature, [(tensor, plan.shape) for tensor, plan in zip(signature.inputs, plans, strict=True)], spec, batch)
    return _Requests(plans, spec.seed, range(spec.count))


class _Uniform:
    """Random numbers in [0, 1)."""

    def __init__(self, seed: int, skip: int) -> None:
        self._bits = np.random.PCG64(seed)
        self._bits.advance(skip)

    def take(self, count: int) -> NDArray[np.float64]:
        raw = np.asarray(self._bits.random_raw(count), dtype=np.uint64)
        # The upper 53 bits, as many as a double holds.
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class _Plan:
    """How one input is filled."""

    name: str
    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    low: float
    high: float
    words: Sequence[str] = ()
    columns: tuple[Choice | None, ...] = ()

    @property
    def numbers(self) -> int:
        """Random numbers that one request takes."""
        freely = math.prod(self.shape) * (_WORD if self.dtype == np.dtype(object) else 1)
        return freely + sum(self.shape[0] for choice in self.columns if choice)

    def draw(self, source: _Uniform) -> NDArray[Any]:
        made = np.empty(math.prod(self.shape), dtype=self.dtype)
        for start in range(0, len(made), _BLOCK):
            block = made[start : start + _BLOCK]
            block[:] = self._values(source, len(block))
        table = made.reshape(-1, len(self.columns) or 1)
        for column, choice in enumerate(self.columns):
            if choice:
                table[:, column] = self._typed([choice.pick(share) for share in source.take(len(table))])
        return made.reshape(self.shape)

    def _typed(self, picked: list[Any]) -> "list[Any] | NDArray[Any]":
        """Return what was picked as values of the input's type: between numbers there are others."""
        if self.dtype == np.dtype(object):
            return [str(value) for value in picked]
        if self.dtype.kind in "iu" and isinstance(picked[0], float):
            return np.clip(picked, *whole_numbers(self.dtype))
        return picked

    def _values(self, source: _Uniform, count: int) -> "NDArray[Any] | list[str]":
        if self.dtype == np.dtype(object) and self.words:
            return [_phrase(shares, self.words) for shares in source.take(count * _WORD).reshape(-1, _WORD)]
        if self.dtype == np.dtype(object):
            letters = _LETTERS[(source.take(count * _WORD) * len(_LETTERS)).astype(np.int64)]
            return ["".join(letters[start : start + _WORD]) for start in range(0, count * _WORD, _WORD)]
        share = source.take(count)
        if self.dtype.kind in "iub":
            values = np.floor(self.low + share * (self.high - self.low + 1))
            return np.minimum(values, self.high).astype(self.dtype)
        span = self.high - self.low
        # The span of the largest doubles is infinite.
        reals = self.low + share * span if math.isfinite(span) else self.low * (1 - share) + self.high * share
        return reals.astype(self.dtype)


@dataclass(frozen=True)
class _Requests(Sequence[Tensors]):
    """Requests that are made when they are asked for; each begins in the random numbers where the one before ended."""

    plans: tuple[_Plan, ...]
    seed: int
    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Tensors: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensors]: ...
    def __getitem__(self, index: int | slice) -> "Tensors | Sequence[Tensors]":
        if isinstance(index, slice):
            return replace(self, numbers=self.numbers[index])
        source = _Uniform(self.seed, self.numbers[index] * sum(plan.numbers for plan in self.plans))
        return {plan.name: plan.draw(source) for plan in self.plans}


def _phrase(shares: NDArray[np.float64], words: Sequence[str]) -> str:
    """Return one to `_LONGEST` terms that the model knows, one time in four in capitals, by `_WORD` random numbers."""
    count = 1 + int(shares[0] * _LONGEST)
    phrase = " ".join(words[int(share * len(words))] for share in shares[1 : 1 + count])
    return phrase.upper() if shares[-1] < _CAPITALS else phrase


def _plan(tensor: TensorSpec, spec: GenerateSpec, known: Known, *, alone: bool) -> _Plan:
    name, dtype, shape = tensor.name, tensor.numpy_dtype, _shape(tensor, spec, alone=alone)
    if name in spec.ranges:
        low, high = spec.ranges[name]
        _check_range(tensor, low, high)
        return _Plan(name, dtype, shape, low, high)
    low, high = _default_range(dtype, known.bounds.get(name))
    columns = tuple(choice and choice.fitting(dtype) for choice in known.columns.get(name, ()))
    return _Plan(name, dtype, shape, low, high, known.words.get(name, ()), columns)


def _default_range(dtype: "np.dtype[Any]", bound: int | None) -> tuple[float, float]:
    if dtype.kind == "f":
        return REAL_RANGE
    if bound is not None:
        return 0.0, float(bound - 1)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        information = np.iinfo(dtype)
        return float(information.min), float(information.max)
    return FLAG_RANGE


def _check_range(tensor: TensorSpec, low: float, high: float) -> None:
    field, given = f"{FIELD}.ranges.{tensor.name}", f"[{low:g}, {high:g}]"
    if tensor.dtype == "BYTES":
        raise SourceError(field, "is a range of numbers for an input of text", "Remove it.", value=given)
    if tensor.dtype == "BOOL":
        limits = (0.0, 1.0)
    elif tensor.numpy_dtype.kind == "f":
        limits = (float(np.finfo(tensor.numpy_dtype).min), float(np.finfo(tensor.numpy_dtype).max))
    else:
        limits = whole_numbers(tensor.numpy_dtype)
        if not (low.is_integer() and high.is_integer()):
            raise SourceError(field, f"has fractions, and the input is {tensor.dtype}", "Write whole numbers.", value=given)
    if low < limits[0] or high > limits[1]:
        fix = f"Stay between {limits[0]:g} and {limits[1]:g}."
        raise SourceError(field, f"leaves what {tensor.dtype} can hold", fix, value=given)


def _require_sizes(signature: Signature, spec: GenerateSpec) -> None:
    """Ask for all open dimensions at once: a text model has them in each of its inputs."""
    rests = {tensor.name: _behind_batch(tensor, alone=signature.alone) for tensor in signature.inputs}
    unknown = {name: rest for name, rest in rests.items() if DYNAMIC in rest and name not in spec.shapes}
    if not unknown:
        return
    example = {name: [16 if size == DYNAMIC else size for size in rest] for name, rest in unknown.items()}
    behind = "" if signature.alone else " behind the batch axis"
    if len(unknown) == 1:
        ((name, rest),) = unknown.items()
        where, it = f"{FIELD}.shapes.{name}", "it"
        reason = f"has open dimensions {list(rest)}{behind}, so the size to generate is not known"
    else:
        where, it = f"{FIELD}.shapes", "them"
        open_ones = ", ".join(f"{name} {list(rest)}" for name, rest in unknown.items())
        reason = f"these inputs have open dimensions{behind}, so the sizes to generate are not known: {open_ones}"
    shapes = ", ".join(f"{name}: {sizes}" for name, sizes in example.items())
    raise SourceError(where, reason, f"Say {it}, for example `shapes: {{{shapes}}}`.")


def _behind_batch(tensor: TensorSpec, *, alone: bool) -> tuple[int, ...]:
    return tensor.shape[0 if alone else 1 :]


def _shape(tensor: TensorSpec, spec: GenerateSpec, *, alone: bool) -> tuple[int, ...]:
    """Return the shape of one request: a batch of 1 where the batch axis is free."""
    first = tuple(1 if size == DYNAMIC else size for size in tensor.shape[: 0 if alone else 1])
    rest = _behind_batch(tensor, alone=alone)
    behind = "" if alone else " behind the batch axis"
    field, given = f"{FIELD}.shapes.{tensor.name}", spec.shapes.get(tensor.name)
    if given is None:
        return (*first, *rest)
    if len(given) != len(rest) or any(want not in (DYNAMIC, size) for want, size in zip(rest, given, strict=True)):
        fix = f"Give {len(rest)} sizes{behind} that fit {list(rest)} (-1 is open)."
        raise SourceError(field, "contradicts the model's input", fix, value=str(list(given)))
    return (*first, *given)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith("?") else ".")
