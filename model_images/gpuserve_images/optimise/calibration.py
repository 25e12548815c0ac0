"""Feeding samples to ONNX Runtime's calibrators, and the range of every tensor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from gpuserve_images.disks import scratch
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.files import external_files, load
from gpuserve_images.onnx_model.session import Session, runtime_errors
from gpuserve_images.optimise.quiet import quiet
from gpuserve_images.records import Progress, silent
from gpuserve_images.samples.codec import Tensors, batches

CALIBRATION_BATCH = 8
"""Samples per calibration run: bounds the memory of the activations that are kept."""


class SampleReader:
    """Feeds calibration batches of one size: the histogram methods cannot mix sizes."""

    def __init__(
        self,
        samples: Sequence[Tensors],
        progress: Progress = silent,
        *,
        size: int = CALIBRATION_BATCH,
        names: Sequence[str] = (),
    ) -> None:
        """Remember the samples, and what errors call them; `size` is 1 for a model without a batch axis."""
        self._samples, self._names, self._size, self._at = samples, names, size, 0
        self._total = -(-len(samples) // size)
        self._batches = enumerate(batches(samples, size), start=1)
        self._progress = progress

    def get_next(self) -> "Tensors | None":
        """Return the next batch, or None at the end."""
        done, batch = next(self._batches, (self._total, None))
        self._at = done - 1
        self._progress("calibrate", done, self._total)
        return batch

    def culprit(self, model: Path) -> str:
        """Return, in words to end a reason with, which sample of the last batch a model cannot take; empty where it takes each alone."""
        start = self._at * self._size
        try:
            session = Session(model, threads=1)
        except SourceError:
            return ""
        for number, sample in enumerate(self._samples[start : start + self._size], start=start + 1):
            try:
                session.run(sample)
            except SourceError:
                return f" (on {self._called(number)})"
        return ""

    def endless(self) -> str:
        """Return, in words to begin a reason with, the first sample with numbers that are not finite; empty where there is none."""
        import numpy as np

        for number, sample in enumerate(self._samples, start=1):
            for name, array in sample.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    return f"{self._called(number)} has NaN or infinity in {name!r}"
        return ""

    def _called(self, number: int) -> str:
        file = f", {self._names[number - 1]}" if self._names else ""
        return f"sample {number} of {len(self._samples)}{file}"

    def __len__(self) -> int:
        return self._total

    def set_range(self, start_index: int, end_index: int) -> None:
        """Accept the quantiser's striding, which is not asked for."""


def largest_values(model: Path, samples: Sequence[Tensors], *, batched: bool, shown: Path) -> dict[str, float]:
    """Return the largest magnitude that each float tensor of a model takes over samples; infinite where it overflows already.

    Args:
        model: An ONNX file with the shapes of its inner tensors. Temporary files, as large as it is, are written beside it.
        samples: Inputs to run, of one request each.
        batched: Whether requests can be joined.
        shown: What an error calls the file, which may be a temporary one.

    Raises:
        SourceError: When the model fails on a sample.
    """
    import numpy as np
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    large = any(external_files(load(model), model))
    with quiet(), scratch(model.parent) as folder:
        reader = SampleReader(samples, size=CALIBRATION_BATCH if batched else 1)
        try:
            calibrator: Any = create_calibrator(
                model,
                augmented_model_path=str(folder / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
                use_external_data_format=large,
            )
            calibrator.collect_data(cast("Any", reader))
            ranges = calibrator.compute_data().data
        except (ValueError, *runtime_errors()) as error:
            reason = f"fails while ranges are measured{reader.culprit(model)}: {shortened(error)}"
            raise SourceError(str(shown), reason, "Correct the sample, or what the model takes.") from error
    found: dict[str, float] = {}
    for name, data in ranges.items():
        low, high = (np.asarray(value, dtype=np.float64) for value in data.range_value)
        found[name] = float(np.nan_to_num(np.maximum(np.abs(low), np.abs(high)), nan=np.inf, posinf=np.inf).max(initial=0.0))
    return found
