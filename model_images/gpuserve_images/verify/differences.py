"""What was measured between a build and its source model, to be read without what measures it."""

from collections.abc import Mapping

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.errors import ImageError

RELATIVE_FLOOR = 1e-3
"""Values below this share of the tensor's largest do not enter the relative error: near zero it says nothing."""


class ParityError(ImageError):
    """A build strays further from its source model than its bars allow; nothing was pushed."""


class MissedError(ParityError):
    """What was measured of a build misses a bar.

    Attributes:
        build: The build, as `judge` was told to call it.
    """

    def __init__(self, build: str, reason: str, fix: str, *, value: str | None = None) -> None:
        """Say that it is verification that refuses the build."""
        self.build = build
        super().__init__(f"build {build}: verify", reason, fix, value=value)

    def fixed(self, fix: str) -> "MissedError":
        """Return the error with something else to do."""
        return MissedError(self.build, self.reason, fix, value=self.value)


class Parity(Spec):
    """Differences between a build and its source model at the same batch size; each is the worst over all outputs and sizes.

    Attributes:
        samples: Files compared.
        batches: Batch sizes compared at.
        max_abs_error: Largest difference of a value.
        scaled_error: Largest difference as a share of the source's largest value in that output, where this is more than 1 or the
            difference over a tenth of it, and the output is no whole numbers; None where it was not measured.
        max_rel_error: Largest difference as a share of the value, of values over `RELATIVE_FLOOR` of the tensor's largest.
        cosine: Least cosine similarity of a sample's output; of outputs with a single number per sample that of all samples together.
        top1_agreement: Share of samples with the same largest output and the same labels; None for outputs that name no classes.
        top5_agreement: Share of samples whose source's largest output is among the build's five largest; None for outputs of no
            more than five classes, where it says nothing.
        text_agreement: Share of samples with the same text in every output of text; None where no output is text. Text enters
            `top1_agreement` too, and no other measure.
        label_agreement: The same of outputs with a single whole number per sample, which name a class too.
        agreements: Share of samples that agree, by output, of those that enter `top1_agreement`.
        source_batch_error: Largest difference between the source model's own answers at two batch sizes. Kernels sum in another
            order, so a model that amplifies rounding moves by this much whatever serves it.
        source_scaled_error: The `scaled_error` of the source model as ONNX, before anything is built of it, in ONNX Runtime with its usual
            optimisations; None where it was not measured, because the build is no fp32 or near to its source.
        disagreeing: Names of up to ten samples that disagree.
    """

    samples: int
    batches: tuple[int, ...]
    max_abs_error: float
    max_rel_error: float
    cosine: float
    top1_agreement: float | None
    top5_agreement: float | None = None
    text_agreement: float | None = None
    label_agreement: float | None = None
    agreements: Mapping[str, float] = {}
    scaled_error: float | None = None
    source_batch_error: float = 0.0
    source_scaled_error: float | None = None
    disagreeing: tuple[str, ...] = ()
