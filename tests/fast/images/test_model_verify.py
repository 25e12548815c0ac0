"""Parity: the measures, the bars, and what cannot pass."""

import numpy as np
import onnx
import pytest
from e2e_graphs import random_samples, written
from e2e_small_model import classifier
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.verify.differences import Parity, ParityError
from gpuserve_images.verify.judging import judge
from gpuserve_images.verify.parity import Named, measure, reference_outputs
from gpuserve_images.verify.spec import BarsSpec

PARITY = Parity(
    samples=100,
    batches=(1,),
    max_abs_error=1e-3,
    scaled_error=2e-4,
    max_rel_error=0.02,
    cosine=0.98,
    top1_agreement=0.97,
    top5_agreement=0.99,
    disagreeing=("a.py", "b.py"),
)


@pytest.fixture
def source(tmp_path):
    return written(classifier(), tmp_path)


@pytest.fixture
def samples():
    return random_samples(21)


def changed(path, name: str, change) -> "object":
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), name))
    out = path.with_name("build.onnx")
    onnx.save(model, out)
    return out


def test_a_model_equals_itself(source, samples):
    parity = measure(source, reference_outputs(source, samples, (1, 4, 32)), samples)
    assert parity.max_abs_error < 1e-6
    assert parity.top1_agreement == 1
    assert parity.cosine == pytest.approx(1)
    assert parity.batches == (1, 4, 32)
    judge(parity, BarsSpec(max_abs_error=1e-6, top1_agreement=1), "fp32")


def test_a_moved_class_is_found_and_named(source, samples):
    build = changed(source, "b2", lambda bias: bias + np.array([50, 0, 0, 0]))
    names = [f"{index}.npz" for index in range(len(samples))]
    parity = measure(build, reference_outputs(source, samples, (1, 8)), samples, Named(names))
    assert parity.top1_agreement < 0.9
    assert parity.disagreeing[0] in names
    assert parity.max_abs_error > 0.5
    with pytest.raises(ParityError, match=r"top1_agreement is .* the bar is 0.99.*nothing was pushed.*Fix:"):
        judge(parity, BarsSpec(top1_agreement=0.99), "int8")


def test_nan_is_a_failure_whatever_the_bars(source, samples):
    build = changed(source, "w1", lambda weights: weights * np.nan)
    with pytest.raises(ParityError, match="output scores: gives NaN or infinity at batch size 8"):
        measure(build, reference_outputs(source, samples, (8,)), samples)


def test_a_source_that_gives_nan_is_named_as_the_source(source, samples):
    with pytest.raises(ParityError, match="source model, output scores"):
        reference_outputs(changed(source, "b1", lambda bias: bias * np.inf), samples, (1,))


def test_other_outputs_are_a_failure(source, samples):
    model = onnx.load(source)
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4]))
    onnx.save(model, source.with_name("more.onnx"))
    with pytest.raises(ParityError, match="has outputs"):
        measure(source.with_name("more.onnx"), reference_outputs(source, samples, (1,)), samples)


@pytest.mark.parametrize(
    ("bars", "missed"),
    [
        ({"max_abs_error": 1e-2}, []),
        ({"max_abs_error": 1e-4}, ["max_abs_error is 0.001, the bar is 0.0001"]),
        ({"scaled_error": 1e-3}, []),
        ({"scaled_error": 1e-4}, ["scaled_error is 0.0002, the bar is 0.0001"]),
        ({"max_rel_error": 0.01}, ["max_rel_error is 0.02, the bar is 0.01"]),
        ({"cosine": 0.99}, ["cosine is 0.98, the bar is 0.99"]),
        ({"top1_agreement": 0.97}, []),
        ({"top1_agreement": 0.98, "cosine": 0.99}, ["top1_agreement is 0.97", "cosine is 0.98"]),
        ({"top5_agreement": 0.995}, ["top5_agreement is 0.99, the bar is 0.995"]),
        ({"top5_agreement": 0.99}, []),
        # Six digits of both would be the same, or one would be rounded away.
        ({"cosine": 0.98000004}, ["cosine is 0.98, the bar is 0.98000004"]),
        ({"max_abs_error": 0.00099999999}, ["max_abs_error is 0.001, the bar is 0.00099999999"]),
    ],
)
def test_bars(bars, missed):
    if not missed:
        judge(PARITY, BarsSpec(**bars), "b")
        return
    with pytest.raises(ParityError) as caught:
        judge(PARITY, BarsSpec(**bars), "b")
    for words in (*missed, "build b", "a.py"):
        assert words in str(caught.value)


def test_a_value_that_is_nearly_the_bar_has_as_many_digits_as_it_takes():
    near = PARITY.model_copy(update={"cosine": 0.99999987})
    with pytest.raises(ParityError, match=r"cosine is 0\.9999999, the bar is 0\.99999995") as caught:
        judge(near, BarsSpec(cosine=0.99999995), "b")
    assert "cosine is 0.9999999," in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "bars", "fix"),
    [
        ("fp16", {"cosine": 0.99}, "in fp32; or, if that is good enough, lower cosine in `verify:`."),
        ("fp32", {"scaled_error": 1e-4}, "or, if that is good enough, raise scaled_error in `verify:`."),
        ("int8", {"top1_agreement": 0.98, "max_abs_error": 1e-4}, "lower top1_agreement and raise max_abs_error in `verify:`."),
    ],
)
def test_the_way_out_fits_the_bar_and_the_precision(precision, bars, fix):
    with pytest.raises(ParityError) as caught:
        judge(PARITY, BarsSpec(**bars), "b", precision)
    assert caught.value.fix.endswith(fix)
    assert ("alibrat" in caught.value.fix) is (precision == "int8")


@pytest.mark.parametrize(
    ("own", "engine", "words"),
    [
        (None, False, "Build it with less optimisation"),
        (1e-6, False, "Build it with less optimisation"),
        (1.5e-4, False, "The model itself strays by 0.00015 in ONNX Runtime"),
        (1.5e-4, True, "Build the engine without TF32"),
    ],
)
def test_what_brings_fp32_nearer(own, engine, words):
    parity = PARITY.model_copy(update={"source_scaled_error": own})
    with pytest.raises(ParityError) as caught:
        judge(parity, BarsSpec(scaled_error=1e-4), "b", engine=engine)
    assert caught.value.fix.startswith(words)
    assert caught.value.fix.endswith("if that is good enough, raise scaled_error in `verify:`.")


@pytest.mark.parametrize(
    ("level", "engine", "words"),
    [
        ("extended", False, "Build it with less optimisation (`optimise: basic` or `none`); or, if that"),
        ("basic", False, "Build it with less optimisation (`optimise: none`); or, if that"),
        ("none", False, "If that is good enough, raise"),
        (
            "basic",
            True,
            "Build the engine without TF32 (`compile: {tf32: false}`), or with less optimisation (`optimise: none`); or",
        ),
        ("none", True, "Build the engine without TF32 (`compile: {tf32: false}`); or, if"),
    ],
)
def test_less_optimisation_is_advised_where_there_is_less(level, engine, words):
    with pytest.raises(ParityError) as caught:
        judge(PARITY, BarsSpec(scaled_error=1e-4), "b", level=level, engine=engine)
    assert caught.value.fix.startswith(words)


def test_a_build_that_is_wrong_is_not_excused_by_rounding():
    wrong = PARITY.model_copy(update={"scaled_error": 0.1, "source_scaled_error": 1.5e-4})
    with pytest.raises(ParityError, match="Build it with less optimisation"):
        judge(wrong, BarsSpec(scaled_error=1e-4), "b")


def test_directions_of_next_to_nothing_want_other_samples():
    """A detector that finds nothing in noise answers 1e-6, of which no half-precision build keeps the direction."""
    bars, small = BarsSpec(cosine=0.99), PARITY.model_copy(update={"max_abs_error": 3e-6})
    with pytest.raises(
        ParityError, match=r"Fix: Verify on samples .*\(`verify.inputs`\): these are 3e-06 apart at most; or, if that"
    ):
        judge(small, bars, "b", "fp16")
    for parity, precision in ((PARITY, "fp16"), (small, "fp32")):
        with pytest.raises(ParityError) as caught:
            judge(parity, bars, "b", precision)
        assert "verify.inputs" not in caught.value.fix


def test_a_bar_that_cannot_be_measured_does_not_pass_silently():
    parity = PARITY.model_copy(update={"top1_agreement": None})
    with pytest.raises(
        ParityError, match=r"cannot be measured.*Fix: Remove top1_agreement from `verify:`, or name.*`classes: \[scores\]`"
    ):
        judge(parity, BarsSpec(top1_agreement=0.5), "b")


ANY = Signature(inputs=(), outputs=(), opset=17)
"""Of a played model, which says nothing."""


class _Answers:
    """A model that always answers the same, row by row."""

    def __init__(self, rows: "list[list[float]]") -> None:
        self.outputs, self.rows, self.signature = ["scores"], np.array(rows, np.float32), ANY

    def run(self, inputs):
        return {"scores": self.rows[inputs["x"][:, 0]]}


def test_top_five_holds_the_sources_class_or_it_does_not():
    requests = [{"x": np.array([[row]])} for row in range(4)]
    source = _Answers([[9, 0, 1, 2, 3, 4, 5], [0, 9, 1, 2, 3, 4, 5], [0, 1, 9, 2, 3, 4, 5], [0, 1, 2, 9, 3, 4, 5]])
    # Same class; still second; fifth; sixth.
    build = _Answers([[9, 0, 1, 2, 3, 4, 5], [10, 9, 1, 2, 3, 4, 5], [8, 7, 3.5, 6, 5, 1, 2], [8, 7, 6, 3, 5, 4, 1]])
    parity = measure(build, reference_outputs(source, requests, (1, 2)), requests)
    assert parity.top1_agreement == 0.25
    assert parity.top5_agreement == 0.75
    with pytest.raises(ParityError, match=r"top5_agreement is 0\.75, the bar is 0\.8"):
        judge(parity, BarsSpec(top5_agreement=0.8), "b")


def test_top_five_of_four_classes_says_nothing(source, samples):
    parity = measure(source, reference_outputs(source, samples, (1,)), samples)
    assert parity.top5_agreement is None
    with pytest.raises(ParityError, match="top5_agreement cannot be measured: no output has more than 5 classes"):
        judge(parity, BarsSpec(top5_agreement=0.5), "b")
