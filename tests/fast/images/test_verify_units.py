"""Outputs whose values are all small: what is right there differs by less than the default bar, and so may what is wrong."""

import numpy as np
import pytest

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.judging import judge
from gpuserve_images.verify.parity import measure, reference_outputs
from gpuserve_images.verify.spec import FP32_SCALED_ERROR, BarsSpec

RANDOM = np.random.default_rng(3)
SAMPLES = [{"x": RANDOM.uniform(-1, 1, size=(1, 4)).astype(np.float32)} for _ in range(16)]
DEFAULT = BarsSpec(scaled_error=FP32_SCALED_ERROR)


class _Played:
    def __init__(self, answer) -> None:
        self.outputs, self.answer, self.signature = ["y"], answer, Signature(inputs=(), outputs=(), opset=17)

    def run(self, inputs):
        return {"y": self.answer(inputs["x"])}


def judged(source, build):
    judge(measure(_Played(build), reference_outputs(_Played(source), SAMPLES, (1, 8)), SAMPLES), DEFAULT, "b")


@pytest.mark.parametrize("unit", [1e-5, 3e-6])
@pytest.mark.parametrize("wrong", [lambda x: x * 0, lambda x: -x, lambda x: x * 1.5, lambda x: x[:, ::-1]])
def test_another_answer_is_refused_in_whatever_unit(unit, wrong):
    with pytest.raises(ParityError, match="scaled_error is"):
        judged(lambda x: x * np.float32(unit), lambda x: (wrong(x) * unit).astype(np.float32))


@pytest.mark.parametrize(
    ("source", "build"),
    [
        (lambda x: x * 1e-5, lambda x: x * 1.01e-5),
        (lambda x: x * 1e-7, lambda x: x * -1e-7),
        (lambda x: (x + 1) - x - 1, lambda x: x * 0),
        (lambda x: x * 0, lambda x: x * 1e-6),
        (lambda x: x * 0, lambda x: x * 0),
    ],
    ids=["rounded", "noise", "what cancels out", "nearly nothing", "nothing"],
)
def test_what_rounding_leaves_is_not(source, build):
    judged(source, build)


def test_a_share_of_nearly_nothing_is_a_number_that_reports_can_hold():
    least = np.finfo(np.float64).smallest_subnormal
    reference = reference_outputs(_Played(lambda x: np.full(x.shape, least)), SAMPLES, (1,))
    parity = measure(_Played(lambda x: np.ones(x.shape)), reference, SAMPLES)
    assert parity.scaled_error == parity.max_rel_error == np.finfo(np.float64).max
