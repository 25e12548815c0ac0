"""Which layers of a build in a lower precision lose most, and how few of them in fp32 bring it within its bars."""

import math
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import yaml

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.optimise.switched import SwitchedRunner
from gpuserve_images.records import Progress
from gpuserve_images.samples.codec import Tensors

BUDGET = 60.0
"""Seconds that one look at every layer may take; fewer samples are asked where they would take longer."""

PATIENCE = 300.0
"""Seconds of such a look, with a single sample, over which nobody waits for it; and of the search for the fewest layers."""

SAMPLES = 8
"""Samples that each layer is looked at with, at most, spread evenly."""


LARGEST = sys.float_info.max
"""The loss of a layer that makes other shapes, NaN or infinity: JSON has no number for that."""

TRIES = 3
"""Builds that are made to see that keeping layers does what it promises; each takes as long as the one that missed."""


class Losses(Spec):
    """What was found out about the layers of a build that missed a bar.

    Attributes:
        layers: What each loses: the squared error of the outputs, as a share of their squares, when it alone is in the lower precision; the
            largest first. Empty where the model is too slow or too large to look at each of them.
        keep: The fewest of them, in that order, that have to stay in fp32 for the build to be within its bars, as far as up to half of them
            were tried; empty where that did not do.
    """

    layers: Mapping[str, float] = {}
    keep: tuple[str, ...] = ()

    def fix(self, kept: Sequence[str], otherwise: str) -> str:
        """Return what to do.

        Args:
            kept: What the build keeps already.
            otherwise: What else can be done, in sentences.
        """
        if self.keep:
            names = yaml.safe_dump([*kept, *self.keep], default_flow_style=True, width=10_000, allow_unicode=True).strip()
            few = f"{len(self.keep)} of its {len(self.layers)} layers, where most is lost,"
            found = f"Write `keep_fp32: {names}` in the build: with {few} in fp32 it is within its bars."
            return f"{found} Or {otherwise[:1].lower()}{otherwise[1:]}"
        if self.layers:
            most = ", ".join(list(self.layers)[:3])
            found = f"most is lost in {most}, and with half of its {len(self.layers)} layers in fp32 it misses its bars too"
            return f"{otherwise} `keep_fp32:` would not do: {found}."
        return f"{otherwise} Leaving layers in fp32 (`keep_fp32:`) may do; the model is too slow or too large to look at each of them here."


def pace(model: SwitchedRunner, sample: Tensors) -> float:
    """Return how long a request takes, in seconds."""
    lowest = model.but(())
    lowest.run(sample)  # The first of all requests is slower than any other.
    began = time.monotonic()
    lowest.run(sample)
    return max(time.monotonic() - began, 1e-6)


def stride(requests: int, layers: int, seconds: float) -> int:
    """Return of how many requests one is asked, so that looking for the fewest layers takes no longer than `PATIENCE`.

    Args:
        requests: How many there are.
        layers: How many layers the model has; twice as many looks as the number has bits are needed.
        seconds: How long a request takes.
    """
    looks = 2 * layers.bit_length()
    return max(1, min(math.ceil(requests * seconds * looks / PATIENCE), requests // SAMPLES))


def ranked(
    model: SwitchedRunner, layers: Collection[str], samples: Sequence[Tensors], seconds: float, progress: Progress
) -> dict[str, float]:
    """Return what each layer loses when it alone is in the lower precision, the largest loss first; nothing where that takes too long.

    Args:
        model: The model in both forms.
        layers: Its layers.
        samples: Requests.
        seconds: How long one of them takes.
        progress: Told about each layer.
    """
    if seconds * len(layers) > PATIENCE:
        return {}
    count = max(1, min(SAMPLES, int(BUDGET / (seconds * len(layers)))))
    asked = samples[:: -(-len(samples) // count)]
    wanted = [model.but(layers).run(sample) for sample in asked]
    found: dict[str, float] = {}
    for done, layer in enumerate(sorted(layers)):
        progress("layers", done, len(layers))
        alone = model.but(set(layers) - {layer})
        found[layer] = max(_loss(alone.run(sample), right) for sample, right in zip(asked, wanted, strict=True))
    progress("layers", len(layers), len(layers))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def fewest(layers: Sequence[str], near: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    """Return the fewest of the first layers that have to be kept, or nothing where half of them do not do.

    More are tried by doubling, and fewer by halving the difference: that finds the fewest where each further one helps.

    Args:
        layers: The layers, the one that loses most first.
        near: Whether a build that keeps some is near enough.
    """
    most = len(layers) // 2
    too_few, count = 0, min(1, most)
    while count and not near(layers[:count]):
        too_few, count = count, min(2 * count, most) if count < most else 0
    while count - too_few > 1:
        middle = (count + too_few) // 2
        if near(layers[:middle]):
            count = middle
        else:
            too_few = middle
    return tuple(layers[:count])


def proved(layers: Sequence[str], keep: Sequence[str], near: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    """Return the layers to keep, seen to do in a build that is made like any other; nothing where none did.

    Kernels of a lower precision round otherwise than what stands for them, and a range is measured behind what is kept: where so many do not
    do, twice as many are tried.

    Args:
        layers: The layers, the one that loses most first.
        keep: Those to begin with.
        near: Whether a build that keeps some, made anew, is near enough.
    """
    most = len(layers) // 2
    for _ in range(TRIES):
        if not keep or near(keep):
            return tuple(keep)
        keep = layers[: min(2 * len(keep), most)] if len(keep) < most else ()
    return ()


def _loss(got: Tensors, want: Tensors) -> float:
    """Return the largest squared error of an output as a share of its square; of outputs without real numbers the share that differs."""
    numbers = [name for name, array in want.items() if np.issubdtype(array.dtype, np.floating)]
    if not numbers:
        return max((float(np.mean(got[name] != array)) for name, array in want.items()), default=0.0)
    worst = 0.0
    for name in numbers:
        if got[name].shape != want[name].shape:
            return LARGEST
        left, right = got[name].astype(np.float64), want[name].astype(np.float64)
        error = float(np.square(left - right).sum()) / (float(np.square(right).sum()) or 1.0)
        worst = max(worst, error if np.isfinite(error) else LARGEST)
    return worst
