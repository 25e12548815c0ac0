"""Whether a build is near enough to its source model."""

from collections.abc import Iterator, Sequence

from gpuserve_images.optimise.overflow import SMALLEST_NORMAL
from gpuserve_images.optimise.spec import Precision
from gpuserve_images.verify.differences import MissedError, Parity, ParityError
from gpuserve_images.verify.parity import TOP
from gpuserve_images.verify.spec import BarsSpec

_AT_LEAST = ("top1_agreement", "top5_agreement", "cosine")
_UNMEASURABLE = {
    "top1_agreement": "no output has the shape [samples, classes], or is a label",
    "top5_agreement": f"no output has more than {TOP} classes",
}
_LABELS = {"text_agreement": "text outputs", "label_agreement": "labels (whole numbers)"}
_NEARER: dict[Precision, str] = {
    "fp16": "Build it in fp32",
    "int8": "Calibrate on more samples or by another method, or use another precision",
    "int8-dynamic": "Use another precision",
}


_MOSTLY = 4
"""Times the source's own error up to which a build's error is of the same kind: its kernels may be others, and its rounding too."""
_ENGINE_NEARER: dict[Precision, str] = {
    "fp32": "Build the engine without TF32 (`compile: {tf32: false}`)",
    "fp16": "Leave the nodes that lose most in fp32 (`keep_fp32:`), or build it in fp32",
}
_LESS: dict[str, str] = {"extended": "`optimise: basic` or `none`", "basic": "`optimise: none`"}
"""Levels of optimisation below each."""


def judge(  # noqa: PLR0913 - what was measured, what it is held to, and what the build is
    parity: Parity, bars: BarsSpec, build: str, precision: Precision = "fp32", *, level: str = "extended", engine: bool = False
) -> None:
    """Refuse a build that misses one of its bars.

    Args:
        parity: How far it strays.
        bars: How far it may.
        build: What errors call it.
        precision: What it was built in: what brings it nearer depends on that.
        level: How far it was optimised, `none`, `basic` or `extended`. Default: `extended`.
        engine: Whether it is an engine of TensorRT. Default: no.

    Raises:
        MissedError: Naming each missed bar, the value, and what to do.
        ParityError: When only bars are stated that cannot be measured.
    """
    stated = bars.stated()
    missed = [
        name
        for name, bar in stated.items()
        if (value := getattr(parity, name)) is not None and (value < bar if name in _AT_LEAST else value > bar)
    ]
    # No other bar sees labels: a build that is wrong in every one would pass.
    labels = (
        []
        if "top1_agreement" in stated
        else [name for name in _LABELS if (share := getattr(parity, name)) is not None and share < 1]
    )
    unmeasured = [name for name in stated if name in _UNMEASURABLE and getattr(parity, name) is None]
    if not (missed or labels or unmeasured):
        return
    value = ["{} is {}, the bar is {}".format(name, *_apart(getattr(parity, name), stated[name])) for name in missed]
    value += [f"{name} cannot be measured: {_UNMEASURABLE[name]}" for name in unmeasured]
    value += [
        f"{_LABELS[name]} are equal on {getattr(parity, name):.6g} of the samples, and no top1_agreement allows that"
        for name in labels
    ]
    examples = f" (for example on {', '.join(parity.disagreeing[:3])})" if parity.disagreeing else ""
    reason = f"strays too far from its source model on {parity.samples} samples{examples}; nothing was pushed"
    if not missed and not labels:
        reason = "cannot be judged by its bars; nothing was pushed"
    near = _nearer(precision, level, engine=engine)
    # A detector that finds nothing in noise answers such numbers, and their directions are noise too.
    if missed == ["cosine"] and not labels and precision != "fp32" and parity.max_abs_error < SMALLEST_NORMAL:
        near = f"Verify on samples whose answers are no such small numbers (`verify.inputs`): these are {parity.max_abs_error:.2g} apart at most"
    nearer = f"{near}; or, " if near and (missed or labels) else ""
    own = _own_error(parity)
    if own is not None and missed == ["scaled_error"] and own > stated["scaled_error"] and not (labels or engine):
        nearer = (
            f"The model itself strays by {own:.2g} in ONNX Runtime, before anything is built of it, because it amplifies rounding "
            "(a logarithm or a division does), so no other build is nearer: "
        )
    fix = f"{nearer}{', and '.join(_concessions(missed, labels, unmeasured))}."
    fix = fix[:1].upper() + fix[1:]
    if missed or labels:
        raise MissedError(build, reason, fix, value="; ".join(value))
    raise ParityError(f"build {build}: verify", reason, fix, value="; ".join(value))


def blind(constant: Parity, bars: BarsSpec) -> str | None:
    """Return what to know of bars that a build would meet which gives every sample the same answer; None where they tell it apart.

    Args:
        constant: How far such a build is from the source.
        bars: How far a build may be.
    """
    try:
        judge(constant, bars, "constant")
    except ParityError:
        return None
    return (
        f"A build that gives all {constant.samples} inputs the answer of the first would meet the bars, so these show little: verify on "
        "samples (`verify.inputs`, --samples), or say what the inputs may be (`verify.generate.ranges`, --range)."
    )


def _nearer(precision: Precision, level: str, *, engine: bool) -> str:
    """Return what brings such a build nearer to its source; empty where nothing does."""
    near = (_NEARER | _ENGINE_NEARER if engine else _NEARER).get(precision, "")
    less = f"with less optimisation ({_LESS[level]})" if precision == "fp32" and level in _LESS else ""
    return f"{near}, or {less}" if near and less else near or (f"Build it {less}" if less else "")


def _apart(value: float, bar: float) -> tuple[str, str]:
    """Return both: the bar as it is written, the value with as many digits as show on which side it is, six at least."""
    shown = (f"{value:.{digits}g}" for digits in range(6, 18))
    return next(text for text in shown if (float(text) < bar, float(text) > bar) == (value < bar, value > bar)), f"{bar:.15g}"


def _own_error(parity: Parity) -> float | None:
    """Return the source's own error, where it is most of the build's."""
    own = parity.source_scaled_error
    return None if own is None or parity.scaled_error is None or parity.scaled_error > _MOSTLY * own else own


def _concessions(missed: Sequence[str], labels: Sequence[str], unmeasured: Sequence[str]) -> Iterator[str]:
    """Yield what can be said in `verify:` instead."""
    lower, higher = ([name for name in missed if (name in _AT_LEAST) is least] for least in (True, False))
    changes = [f"{word} {' and '.join(names)}" for word, names in (("lower", lower), ("raise", higher)) if names]
    if labels:
        changes.append("state a top1_agreement")
    if changes:
        yield f"if that is good enough, {' and '.join(changes)} in `verify:`"
    if unmeasured:
        yield (
            f"remove {' and '.join(unmeasured)} from `verify:`, or name the outputs whose last axis holds classes there "
            "(`classes: [scores]`)"
        )
