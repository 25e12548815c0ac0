"""Stage 5: how near a build is to its source model."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.session import Runner, Session
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.records import Progress, silent
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.apart import require_apart
from gpuserve_images.verify.differences import RELATIVE_FLOOR, Parity, ParityError
from gpuserve_images.verify.distances import differences, least_cosine, scaled, spread
from gpuserve_images.verify.roles import Role, of_several_rows, roles_of
from gpuserve_images.verify.rows import ALONE, answers, sizes_of

TOP = 5
"""Classes among which the source's own must be for top-5 agreement."""

Reference = dict[int, Tensors]
"""The source model's outputs of all samples, joined along the batch axis, by batch size."""

_NAMES_A_CLASS = ("text", "label", "truth")

_FAILS_IN_BATCHES_FIX = (
    f"{ALONE}; else export the model with a batch that is free inside too (a Reshape to a fixed one is the usual reason), or lower `batch.max` "
    "to what it takes."
)
_NOT_FINITE_FIX = (
    "Correct the model or the samples; for generated inputs, set `verify.generate.ranges` to what the model takes."
)


def reference_outputs(
    source: Path | Runner,
    samples: Sequence[Tensors],
    sizes: Sequence[int],
    progress: Progress = silent,
    *,
    batched: bool = False,
) -> Reference:
    """Return the source model's outputs of all samples, at each batch size.

    Args:
        source: The source model: loaded in its own framework, or an ONNX file, which runs without any graph optimisation, so that
            nothing is compared with itself.
        samples: Requests, encoded from samples or generated.
        sizes: Batch sizes to run at.
        progress: Told about each batch size.
        batched: Whether servers will join requests along the first axis. Default: no.

    Raises:
        ParityError: When the source model itself gives NaN or infinity, an output has not one size, or the rows of a batch depend on each
            other or, where requests are joined, are not one for each.
        SourceError: When the source model fails, such as in batches alone.
        CodecError: When samples of different sizes would have to be joined.
    """
    runner = Session(source, optimise="ORT_DISABLE_ALL") if isinstance(source, Path) else source
    reference: Reference = {}
    for done, size in enumerate(sizes):
        progress("reference", done, len(sizes))
        try:
            reference[size] = answers(runner, samples, size, batched=batched)
        except SourceError as error:
            if not batched or size == 1 or not reference:
                raise
            reason = f"answers {max(reference)} at once, and not {size}, though its first axis is free: {error.reason}"
            raise SourceError(error.where, reason, _FAILS_IN_BATCHES_FIX) from error
        for name, array in reference[size].items():
            if not _finite(array):
                reason = f"gives NaN or infinity at batch size {size}, so there is nothing to compare with"
                raise ParityError(f"source model, output {name}", reason, _NOT_FINITE_FIX)
    require_apart(reference, len(samples), batched=batched)
    return reference


@dataclass(frozen=True)
class Named:
    """What is known by name.

    Attributes:
        samples: Names of the samples, for `disagreeing`. Default: none is told.
        classes: Outputs whose last axis holds one number per class. Default: those of real numbers with the shape [samples, classes].
    """

    samples: Sequence[str] = ()
    classes: Sequence[str] = ()


NOTHING_NAMED = Named()


def measure(
    build: Path | Runner,
    reference: Reference,
    samples: Sequence[Tensors],
    named: Named = NOTHING_NAMED,
    progress: Progress = silent,
) -> Parity:
    """Compare a build with its source model.

    Args:
        build: The ONNX file that was built, or anything that runs it.
        reference: Outputs of the source model for the same samples, by batch size.
        samples: Encoded samples.
        named: Names of the samples, and of the outputs with classes.
        progress: Told about each batch size.

    Raises:
        ParityError: When the build gives NaN or infinity, or other outputs than its source, or one that shall hold classes has none.
        CodecError: When samples of different sizes would have to be joined.
    """
    runner = Session(build) if isinstance(build, Path) else build

    def asked() -> Iterator[tuple[int, Tensors]]:
        for done, (size, wanted) in enumerate(reference.items()):
            progress("verify", done, len(reference))
            grown = [name for name in wanted if sizes_of(name) in wanted]
            outputs = answers(runner, samples, size, grown=grown)
            if outputs.keys() != wanted.keys():
                reason = f"has outputs {sorted(outputs)}, its source {sorted(wanted)}"
                where = str(build) if isinstance(build, Path) else "build"
                raise ParityError(where, reason, "Build it with stages that keep the outputs.")
            yield size, outputs

    found = _compared(asked(), reference, len(samples), named, runner.signature)
    progress("verify", len(reference), len(reference))
    return found


def measure_constant(reference: Reference, samples: int, named: Named, signature: Signature) -> Parity | None:
    """Compare with the source model what always answers as that does the first sample: bars that this meets see nothing.

    Args:
        reference: Outputs of the source model, by batch size; the smallest is looked at.
        samples: How many samples there are.
        named: Names of the outputs with classes.
        signature: The source model's.

    Returns:
        The differences; None where there is one sample only, or the sizes of an output tell them apart.
    """
    size = min(reference)
    wanted = reference[size]
    if samples == 1 or any(sizes_of(name) in wanted for name in wanted):
        return None
    always = {name: np.broadcast_to(rows[:1], rows.shape) for name, rows in wanted.items()}
    return _compared([(size, always)], {size: wanted}, samples, Named(classes=named.classes), signature)


def _compared(
    asked: Iterable[tuple[int, Tensors]], reference: Reference, samples: int, named: Named, signature: Signature
) -> Parity:
    """Return the differences of answers at each batch size."""
    roles = roles_of(next(iter(reference.values())), named.classes or of_several_rows(signature))
    worst = _Worst(samples)
    for size, outputs in asked:
        wanted = reference[size]
        worst.size = size
        for name, array in outputs.items():
            _require_comparable(name, array, wanted[name], size)
            if name in roles:
                _compare(name, array, wanted[name], roles[name], worst)
            else:
                _require_sizes(name, array, wanted[name])
    wrong = np.flatnonzero(~np.logical_and.reduce(list(worst.agreed.values()))) if worst.agreed else ()
    return Parity(
        samples=samples,
        batches=tuple(reference),
        max_abs_error=worst.absolute,
        scaled_error=worst.scaled,
        max_rel_error=worst.relative,
        cosine=worst.cosine,
        top1_agreement=worst.share(),
        top5_agreement=float(np.logical_and.reduce(list(worst.among.values())).mean()) if worst.among else None,
        text_agreement=worst.share(name for name in worst.agreed if roles[name] == "text"),
        label_agreement=worst.share(name for name in worst.agreed if roles[name] == "label"),
        agreements={name: float(same.mean()) for name, same in worst.agreed.items()},
        source_batch_error=spread(list(reference.values())),
        disagreeing=tuple(named.samples[int(index)] for index in wrong[:10] if index < len(named.samples)),
    )


@dataclass
class _Worst:
    """The worst so far.

    Attributes:
        samples: How many are compared.
        size: The batch size that is compared at.
        agreed: Which samples agree, by output that names a class.
        among: Which samples have the source's class among the best, by output of more than `TOP` classes.
        absolute: The largest difference.
        scaled: The same as `distances.scaled` has it; of whole numbers as it is.
        relative: The largest difference as a share of the source's value, of those that matter.
        cosine: The smallest cosine similarity.
    """

    samples: int
    size: int = 1
    agreed: dict[str, NDArray[np.bool_]] = field(default_factory=dict[str, NDArray[np.bool_]])
    among: dict[str, NDArray[np.bool_]] = field(default_factory=dict[str, NDArray[np.bool_]])
    absolute: float = 0.0
    scaled: float = 0.0
    relative: float = 0.0
    cosine: float = 1.0

    def share(self, names: Iterable[str] | None = None) -> float | None:
        """Return the share of samples that agree in all of some outputs, by default in all; None where there is none of them."""
        found = [self.agreed[name] for name in (self.agreed if names is None else names)]
        return float(np.logical_and.reduce(found).mean()) if found else None

    def add(self, known: dict[str, NDArray[np.bool_]], name: str, rows: NDArray[np.bool_]) -> None:
        """Take in which rows are the same; a row of a whole run is one of each of its samples."""
        same = rows if len(rows) == self.samples else np.repeat(rows, self.size)[: self.samples]
        known[name] = known[name] & same if name in known else same


def _require_comparable(name: str, got: NDArray[Any], want: NDArray[Any], size: int) -> None:
    if got.shape != want.shape:
        reason = f"has shape {list(got.shape)} at batch size {size}, its source {list(want.shape)}; nothing was pushed"
        raise ParityError(f"output {name}", reason, "Build it with stages that keep the outputs.")
    if not _finite(got):
        reason = f"gives NaN or infinity at batch size {size}; nothing was pushed"
        raise ParityError(f"output {name}", reason, "Build it in fp32, or calibrate on other samples.")


def _require_sizes(name: str, got: NDArray[Any], want: NDArray[Any]) -> None:
    """Refuse other sizes: values that stand beside each other would be of different things."""
    other = np.flatnonzero((got != want).any(axis=1))
    if len(other):
        reason = f"differ from those of its source on {len(other)} of {len(want)} samples; nothing was pushed"
        value = f"{got[other[0]].tolist()} instead of {want[other[0]].tolist()}"
        fix = "Build it in fp32, or export the model with outputs whose size does not follow from values."
        raise ParityError(f"output: {name}", reason, fix, value=value)


def _compare(name: str, got: NDArray[Any], want: NDArray[Any], role: Role, worst: _Worst) -> None:
    if role in _NAMES_A_CLASS:
        worst.add(worst.agreed, name, np.array([np.array_equal(left, right) for left, right in zip(got, want, strict=True)]))
    if role in {"truth", "classes", "numbers"}:
        _compare_numbers(got, want, worst)
    if role == "classes":
        _compare_classes(name, got, want, worst)


def _compare_numbers(got: NDArray[Any], want: NDArray[Any], worst: _Worst) -> None:
    """Compare values; those that are true or false count as 1 and 0."""
    rows = got.reshape(len(got), -1).astype(np.float64), want.reshape(len(want), -1).astype(np.float64)
    difference = differences(got, want).reshape(rows[0].shape)
    largest = float(np.abs(rows[1]).max(initial=0.0))
    matters = np.abs(rows[1]) > RELATIVE_FLOOR * largest
    absolute = min(float(difference.max(initial=0.0)), sys.float_info.max)
    worst.absolute = max(worst.absolute, absolute)
    worst.scaled = max(worst.scaled, scaled(absolute, largest) if np.issubdtype(want.dtype, np.floating) else absolute)
    with np.errstate(over="ignore"):
        relative = float((difference[matters] / np.abs(rows[1][matters])).max(initial=0.0))
    worst.relative = max(worst.relative, min(relative, sys.float_info.max))
    worst.cosine = min(worst.cosine, least_cosine(*rows))


def _compare_classes(name: str, got: NDArray[Any], want: NDArray[Any], worst: _Worst) -> None:
    same = (got.argmax(axis=-1) == want.argmax(axis=-1)).reshape(len(got), -1).all(axis=1)
    worst.add(worst.agreed, name, same)
    if got.shape[-1] > TOP:
        best = np.argpartition(got, -TOP, axis=-1)[..., -TOP:]
        among = (best == want.argmax(axis=-1)[..., np.newaxis]).any(axis=-1)
        worst.add(worst.among, name, among.reshape(len(got), -1).all(axis=1))


def _finite(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all()) if np.issubdtype(array.dtype, np.floating) else True
