"""Stage 5: how near a build is to its source model, and whether that is near enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.errors import ImageError
from gpuserve_images.onnx_model.session import Runner, Session
from gpuserve_images.records import Progress, silent
from gpuserve_images.samples.codec import Tensors, batches
from gpuserve_images.verify.differences import RELATIVE_FLOOR, Parity
from gpuserve_images.verify.spec import BarsSpec

TOP = 5
"""Classes among which the source's own must be for top-5 agreement."""

Reference = dict[int, Tensors]
"""The source model's outputs of all samples, joined along the batch axis, by batch size."""


class ParityError(ImageError):
    """A build strays further from its source model than its bars allow; nothing was pushed."""


def reference_outputs(
    source: Path | Runner, samples: Sequence[Tensors], sizes: Sequence[int], progress: Progress = silent
) -> Reference:
    """Return the source model's outputs of all samples, at each batch size.

    Args:
        source: The source model: loaded in its own framework, or an ONNX file, which runs without any graph optimisation, so that
            nothing is compared with itself.
        samples: Requests, encoded from samples or generated.
        sizes: Batch sizes to run at.
        progress: Told about each batch size.

    Raises:
        ParityError: When the source model itself gives NaN or infinity, or an output has not one size.
        CodecError: When samples of different sizes would have to be joined.
    """
    runner = Session(source, optimise="ORT_DISABLE_ALL") if isinstance(source, Path) else source
    reference: Reference = {}
    for done, size in enumerate(sizes):
        progress("reference", done, len(sizes))
        reference[size] = _outputs(runner, samples, size)
        for name, array in reference[size].items():
            if not _finite(array):
                reason = f"gives NaN or infinity at batch size {size}, so there is nothing to compare with"
                raise ParityError(f"source model, output {name}", reason, _NOT_FINITE_FIX)
    return reference


_NOT_FINITE_FIX = (
    "Correct the model or the samples; for generated inputs, set `verify.generate.ranges` to what the model takes."
)


def measure(
    build: Path | Runner,
    reference: Reference,
    samples: Sequence[Tensors],
    *,
    names: Sequence[str] = (),
    progress: Progress = silent,
) -> Parity:
    """Compare a build with its source model.

    Args:
        build: The ONNX file that was built, or anything that runs it.
        reference: Outputs of the source model for the same samples, by batch size.
        samples: Encoded samples.
        names: Names of the samples, for `disagreeing`.
        progress: Told about each batch size.

    Raises:
        ParityError: When the build gives NaN or infinity, or other outputs than its source.
        CodecError: When samples of different sizes would have to be joined.
    """
    runner = Session(build) if isinstance(build, Path) else build
    top1, top5, text = (np.ones(len(samples), dtype=bool) for _ in range(3))
    worst = _Worst(top1, top5, text)
    for done, (size, wanted) in enumerate(reference.items()):
        progress("verify", done, len(reference))
        outputs = _outputs(runner, samples, size)
        if outputs.keys() != wanted.keys():
            reason = f"has outputs {sorted(outputs)}, its source {sorted(wanted)}"
            where = str(build) if isinstance(build, Path) else "build"
            raise ParityError(where, reason, "Build it with stages that keep the outputs.")
        for name, array in outputs.items():
            _compare(name, array, wanted[name], size, worst)
    progress("verify", len(reference), len(reference))
    wrong = np.flatnonzero(~worst.top1)
    return Parity(
        samples=len(samples),
        batches=tuple(reference),
        max_abs_error=worst.absolute,
        max_rel_error=worst.relative,
        cosine=worst.cosine,
        top1_agreement=float(worst.top1.mean()) if worst.classifies else None,
        top5_agreement=float(worst.top5.mean()) if worst.ranks else None,
        text_agreement=float(worst.text.mean()) if worst.names else None,
        source_batch_error=_spread(list(reference.values())),
        disagreeing=tuple(names[int(index)] for index in wrong[:10] if index < len(names)),
    )


def judge(parity: Parity, bars: BarsSpec, build: str) -> None:
    """Refuse a build that misses one of its bars.

    Raises:
        ParityError: Naming each missed bar, the value, and what to do.
    """
    missed = [
        f"{name} is {value:.6g}, the bar is {bar:g}"
        for name, bar in bars.stated().items()
        if (value := getattr(parity, name)) is not None and (value < bar if name in _AT_LEAST else value > bar)
    ]
    for name, why in _UNMEASURABLE.items():
        if getattr(bars, name) is not None and getattr(parity, name) is None:
            missed.append(f"{name} cannot be measured: {why}")
    if parity.text_agreement is not None and parity.text_agreement < 1 and bars.top1_agreement is None:
        # No other bar sees text: a build that is wrong in every label would pass.
        missed.append(
            f"text outputs are equal on {parity.text_agreement:.6g} of the samples, and no top1_agreement allows that"
        )
    if missed:
        examples = f" (for example on {', '.join(parity.disagreeing[:3])})" if parity.disagreeing else ""
        reason = f"strays too far from its source model on {parity.samples} samples{examples}; nothing was pushed"
        fix = "Use another precision or calibration (more samples, another method), or lower the bar in `verify:` if that is good enough."
        raise ParityError(f"build {build}: verify", reason, fix, value="; ".join(missed))


_AT_LEAST = ("top1_agreement", "top5_agreement", "cosine")
_UNMEASURABLE = {
    "top1_agreement": "no output is a vector of classes",
    "top5_agreement": f"no output has more than {TOP} classes",
}


@dataclass
class _Worst:
    top1: NDArray[np.bool_]
    top5: NDArray[np.bool_]
    text: NDArray[np.bool_]
    absolute: float = 0.0
    relative: float = 0.0
    cosine: float = 1.0
    classifies: bool = False
    ranks: bool = False
    names: bool = False


def _outputs(runner: Runner, samples: Sequence[Tensors], size: int) -> Tensors:
    """Return one row per sample; the last batch is filled up, so that every batch really has the size that is judged."""
    runs = [runner.run(batch) for batch in batches(samples, size, whole=True)]
    return {name: _joined(name, [_rows(run[name], size) for run in runs])[: len(samples)] for name in runner.outputs}


def _joined(name: str, answers: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = sorted({array.shape[1:] for array in answers})
    if len(shapes) > 1:
        reason = "has another size for one request than for another, so its differences cannot be measured"
        fix = "Use inputs of one size, or export the model with outputs whose size does not follow from values."
        raise ParityError(f"output {name}", reason, fix, value=" and ".join(str(list(shape)) for shape in shapes[:2]))
    return np.concatenate(answers)


def _rows(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Return an output with one row per request; what a model without a batch axis gives is one row."""
    return array if array.shape[:1] == (size,) else array[np.newaxis]


def _compare(name: str, got: NDArray[Any], want: NDArray[Any], size: int, worst: _Worst) -> None:
    if got.shape != want.shape:
        reason = f"has shape {list(got.shape)} at batch size {size}, its source {list(want.shape)}; nothing was pushed"
        raise ParityError(f"output {name}", reason, "Build it with stages that keep the outputs.")
    if not _finite(got):
        reason = f"gives NaN or infinity at batch size {size}; nothing was pushed"
        raise ParityError(f"output {name}", reason, "Build it in fp32, or calibrate on other samples.")
    if np.issubdtype(want.dtype, np.number):
        _compare_numbers(got, want, worst)
        _compare_classes(got, want, worst)
        return
    same = np.array([np.array_equal(left, right) for left, right in zip(got, want, strict=True)])
    worst.top1 &= same
    worst.classifies = True
    if want.dtype == np.bool_:
        _compare_numbers(got, want, worst)
    else:
        worst.text &= same
        worst.names = True


def _compare_numbers(got: NDArray[Any], want: NDArray[Any], worst: _Worst) -> None:
    """Compare values; those that are true or false count as 1 and 0."""
    rows = got.reshape(len(got), -1).astype(np.float64), want.reshape(len(want), -1).astype(np.float64)
    difference = np.abs(rows[0] - rows[1])
    matters = np.abs(rows[1]) > RELATIVE_FLOOR * np.abs(rows[1]).max(initial=0.0)
    worst.absolute = max(worst.absolute, float(difference.max(initial=0.0)))
    worst.relative = max(worst.relative, float((difference[matters] / np.abs(rows[1][matters])).max(initial=0.0)))
    worst.cosine = min(worst.cosine, _least_cosine(*rows))


def _compare_classes(got: NDArray[Any], want: NDArray[Any], worst: _Worst) -> None:
    if got.ndim > 1 and got.shape[-1] > 1:
        same = (got.argmax(axis=-1) == want.argmax(axis=-1)).reshape(len(got), -1).all(axis=1)
        worst.top1 &= same
        worst.classifies = True
        if got.shape[-1] > TOP:
            best = np.argpartition(got, -TOP, axis=-1)[..., -TOP:]
            among = (best == want.argmax(axis=-1)[..., np.newaxis]).any(axis=-1)
            worst.top5 &= among.reshape(len(got), -1).all(axis=1)
            worst.ranks = True


def _least_cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    equal = (left == right).all(axis=1)
    similarity = np.where(equal, 1.0, (left * right).sum(axis=1) / np.where(norms == 0, 1.0, norms))
    return float(similarity.min(initial=1.0))


def _spread(answers: Sequence[Tensors]) -> float:
    first = answers[0]
    differences = [
        float(np.abs(other[name].astype(np.float64) - first[name]).max(initial=0.0))
        for other in answers[1:]
        for name in first
        if np.issubdtype(first[name].dtype, np.number)
    ]
    return max(differences, default=0.0)


def _finite(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all()) if np.issubdtype(array.dtype, np.floating) else True
