"""Whether a build is near enough to its source model."""

from gpuserve_images.verify.differences import Parity, ParityError
from gpuserve_images.verify.parity import TOP
from gpuserve_images.verify.spec import BarsSpec

_AT_LEAST = ("top1_agreement", "top5_agreement", "cosine")
_UNMEASURABLE = {
    "top1_agreement": "no output is a vector of classes or a label",
    "top5_agreement": f"no output has more than {TOP} classes",
}
_LABELS = {"text_agreement": "text outputs", "label_agreement": "labels (whole numbers)"}


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
    if bars.top1_agreement is None:
        # No other bar sees labels: a build that is wrong in every one would pass.
        missed += [
            f"{words} are equal on {share:.6g} of the samples, and no top1_agreement allows that"
            for name, words in _LABELS.items()
            if (share := getattr(parity, name)) is not None and share < 1
        ]
    if missed:
        examples = f" (for example on {', '.join(parity.disagreeing[:3])})" if parity.disagreeing else ""
        reason = f"strays too far from its source model on {parity.samples} samples{examples}; nothing was pushed"
        fix = "Use another precision or calibration (more samples, another method), or lower the bar in `verify:` if that is good enough."
        raise ParityError(f"build {build}: verify", reason, fix, value="; ".join(missed))
