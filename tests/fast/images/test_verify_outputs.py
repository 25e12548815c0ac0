"""Parity by kind of output: labels, single numbers, and outputs whose rows are not the batch's."""

import numpy as np
import onnx
import pytest

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.samples.codec import CodecError
from gpuserve_images.verify.differences import Parity, ParityError
from gpuserve_images.verify.judging import judge
from gpuserve_images.verify.parity import Named, measure, reference_outputs
from gpuserve_images.verify.spec import BarsSpec

ANY = Signature(inputs=(), outputs=(), opset=17)
"""Of a played model, which says nothing."""


class _Played:
    """A model of one output that answers as a function says."""

    def __init__(self, name, answer) -> None:
        self.outputs, self.answer, self.signature = [name], answer, ANY

    def run(self, inputs):
        return {self.outputs[0]: self.answer(inputs["x"])}


class _Several:
    """A model of several outputs that answers as a function says."""

    def __init__(self, names, answer) -> None:
        self.outputs, self.answer, self.signature = names, answer, ANY

    def run(self, inputs):
        return self.answer(inputs["x"])


NUMBERED = [{"x": np.array([[row]], np.float32)} for row in range(10)]
LABELS = np.array(["cat", "dog", "cow"], dtype=object)


def compared(source, build, sizes=(1, 8)) -> Parity:
    return measure(build, reference_outputs(source, NUMBERED, sizes), NUMBERED)


def labels(x):
    return LABELS[x[:, 0].astype(int) % 3]


class TestOutputsThatAreNoNumbers:
    @pytest.mark.parametrize("bars", [{"max_abs_error": 1e-4}, {"cosine": 0.9999}, {}])
    def test_wrong_labels_pass_no_bar_but_one_of_their_own(self, bars):
        parity = compared(_Played("label", labels), _Played("label", lambda x: np.array(["WRONG"] * len(x), dtype=object)))
        assert (parity.text_agreement, parity.top1_agreement) == (0, 0)
        with pytest.raises(ParityError, match="text outputs are equal on 0 of the samples, and no top1_agreement allows that"):
            judge(parity, BarsSpec(**bars), "fp32")

    def test_some_wrong_labels_pass_where_a_bar_allows_them(self):
        parity = compared(_Played("label", labels), _Played("label", lambda x: np.where(x[:, 0] == 3, "dog", labels(x))))
        assert parity.text_agreement == 0.9
        judge(parity, BarsSpec(top1_agreement=0.9, max_abs_error=1e-4), "fp32")
        with pytest.raises(ParityError, match=r"top1_agreement is 0\.9, the bar is 0\.95"):
            judge(parity, BarsSpec(top1_agreement=0.95), "fp32")

    def test_equal_labels_pass(self):
        parity = compared(_Played("label", labels), _Played("label", labels))
        assert parity.text_agreement == 1
        judge(parity, BarsSpec(max_abs_error=1e-4), "fp32")

    def test_numbers_have_no_text(self):
        scores = _Played("scores", lambda x: np.hstack([x, -x]))
        assert compared(scores, scores).text_agreement is None

    @pytest.mark.parametrize("bars", [{"max_abs_error": 1e-4}, {"cosine": 0.9999}])
    def test_true_and_false_are_one_and_zero(self, bars):
        parity = compared(_Played("ok", lambda x: x > 4), _Played("ok", lambda x: x <= 4))
        assert (parity.max_abs_error, parity.cosine, parity.top1_agreement, parity.text_agreement) == (1, 0, 0, None)
        with pytest.raises(ParityError, match="strays too far"):
            judge(parity, BarsSpec(**bars), "fp32")


def whole(values):
    return _Played("label", lambda x: values(x[:, 0].astype(np.int64)))


class TestLabels:
    """A class by number is right or wrong: cosine and differences say nothing about it."""

    @pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
    @pytest.mark.parametrize("bars", [{"max_abs_error": 1e-4}, {"cosine": 0.9999}, {}])
    def test_wrong_numbers_of_classes_pass_no_bar_but_one_of_their_own(self, shape, bars):
        parity = compared(
            whole(lambda row: (row % 5 + 1).reshape(shape)), whole(lambda row: np.where(row < 4, 9, row % 5 + 1).reshape(shape))
        )
        assert (parity.label_agreement, parity.top1_agreement, parity.text_agreement) == (0.6, 0.6, None)
        assert (parity.max_abs_error, parity.cosine) == (0, 1)
        with pytest.raises(
            ParityError, match=r"labels \(whole numbers\) are equal on 0\.6 of the samples, and no top1_agreement"
        ):
            judge(parity, BarsSpec(**bars), "half")
        judge(parity, BarsSpec(top1_agreement=0.6), "half")

    def test_equal_ones_pass(self):
        parity = compared(whole(lambda row: row % 3), whole(lambda row: row % 3))
        assert parity.agreements == {"label": 1}
        judge(parity, BarsSpec(cosine=0.9999, top1_agreement=1), "half")


class TestClasses:
    """Only the numbers of classes have a largest one that means something."""

    OUTPUTS = ("scores", "mask", "embedding", "tokens")

    def answers(self, off):
        def answer(x):
            wide = np.hstack([x, x + 1, x + off])
            return {
                "scores": np.hstack([x, 1 - x]),
                "mask": wide.reshape(len(x), 1, 3),
                "embedding": wide,
                "tokens": wide.astype(int),
            }

        return answer

    def parity(self, outputs, classes=()):
        source, build = (_Several(outputs, self.answers(off)) for off in (0, 2))
        return measure(build, reference_outputs(source, NUMBERED, (1, 8)), NUMBERED, Named(classes=classes))

    def test_masks_boxes_and_tokens_have_no_class(self):
        parity = self.parity(["scores", "mask", "tokens"])
        assert (parity.top1_agreement, parity.agreements) == (1, {"scores": 1})
        assert self.parity(["mask", "tokens"]).top1_agreement is None

    def test_the_outputs_with_classes_can_be_named(self):
        assert self.parity(self.OUTPUTS).agreements == {"scores": 1, "embedding": 0}
        assert self.parity(self.OUTPUTS, ["scores"]).agreements == {"scores": 1}
        assert self.parity(self.OUTPUTS, ["mask", "tokens"]).agreements == {"mask": 0, "tokens": 0}

    def test_labels_count_whatever_is_named(self):
        labelled = _Several(["scores", "label"], lambda x: {"scores": np.hstack([x, -x]), "label": x[:, 0].astype(int)})
        parity = measure(labelled, reference_outputs(labelled, NUMBERED, (1,)), NUMBERED, Named(classes=["scores"]))
        assert parity.agreements == {"scores": 1, "label": 1}

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            (
                "class",
                r"verify.classes \(class\): is no output of the model. Fix: Name some of embedding, mask, scores, tokens\.",
            ),
            ("price", r"verify.classes \(price\): has one row of shape \[1\] per sample, and no axis of classes"),
            ("mean", r"verify.classes \(mean\): has one row of shape \[\] per sample, and no axis of classes"),
        ],
    )
    def test_what_has_no_classes_is_refused(self, name, words):
        numbers = {"price": lambda x: x, "mean": lambda x: x[:, 0]}
        source = _Played(name, numbers[name]) if name in numbers else _Several(self.OUTPUTS, self.answers(0))
        with pytest.raises(ParityError, match=words):
            measure(source, reference_outputs(source, NUMBERED, (1,)), NUMBERED, Named(classes=[name]))


class TestSingleNumbers:
    def test_their_cosine_is_that_of_all_samples(self):
        """One number alone has no direction: it would be 1 or -1, and 0 where one of the two is zero."""
        source = _Played("price", lambda x: np.maximum(x - 4, 0))
        near = compared(source, _Played("price", lambda x: np.maximum(x - 4, 0) * np.float32(1.0003) + np.float32(1e-4)))
        assert 0.99999 < near.cosine < 1
        assert compared(source, _Played("price", lambda x: np.maximum(4 - x, 0))).cosine == 0

    def test_numbers_that_are_all_zero_are_alike(self):
        zero = _Played("y", lambda x: x * 0)
        assert compared(zero, zero).cosine == 1
        assert compared(zero, _Played("y", lambda x: x * 0 + 1)).cosine < 0.9

    def test_a_row_of_zeros_is_judged_by_the_length_of_the_others(self):
        source, near, far = (
            _Played("y", lambda x, off=off: np.hstack([x, 2 * x]) + np.where(x == 0, off, 0)) for off in (0, 1e-3, 18)
        )
        assert compared(source, near).cosine > 0.9999
        assert compared(source, far).cosine == 0.5

    def test_numbers_whose_squares_are_infinite_have_a_cosine_too(self):
        huge, turned = (
            _Played("y", lambda x, by=by: np.hstack([x + 1, by * x]).astype(np.float64) * 1e200) for by in (1.0, -1.0)
        )
        assert compared(huge, huge).cosine == 1
        assert compared(huge, turned).cosine < 0.2


class TestUnits:
    """FP32 rounds a value by a share of it: what that is in the output's own unit depends on how large its values are."""

    def stray(self, unit, off, kind=np.float32):
        source, build = (
            _Played("y", lambda x, by=by: (np.hstack([x, x]) * unit + by).astype(kind)) for by in (0, np.where([1, 0], off, 0))
        )
        return compared(source, build)

    def test_a_difference_counts_by_the_largest_value_of_its_output(self):
        dollars, scores = self.stray(1e5, 30), self.stray(0.1, 3e-5)
        assert (dollars.max_abs_error, round(dollars.scaled_error, 6)) == (30, 33e-6)
        assert scores.scaled_error == scores.max_abs_error
        judge(dollars, BarsSpec(scaled_error=1e-4), "b")
        with pytest.raises(ParityError, match=r"max_abs_error is 30, the bar is 0\.0001"):
            judge(dollars, BarsSpec(max_abs_error=1e-4), "b")

    def test_another_whole_number_is_another_answer(self):
        assert self.stray(1e5, 1, np.int64).scaled_error == 1

    @pytest.mark.parametrize(
        ("kind", "first", "off"),
        [(np.int64, 2**60, 1), (np.uint64, 2**64 - 20, 1), (np.int64, -(2**63), 2**64 - 20), (np.int8, -128, 240)],
    )
    def test_whole_numbers_that_are_no_doubles_are_told_apart(self, kind, first, off):
        """Numbers of rows in a database, or hashes: the next one belongs to somebody else."""

        def numbers(by):
            return lambda x: np.array([[first + int(row) + by] * 2 for row in x[:, 0]], kind)

        source, build = (_Played("y", numbers(by)) for by in (0, off))
        assert compared(source, build).max_abs_error == float(off)
        assert compared(source, source).max_abs_error == 0

    def test_each_output_counts_by_its_own_values(self):
        def answers(off):
            return lambda x: {"price": np.hstack([x, x]) * 1e5, "score": np.hstack([x, x]) / 10 + off}

        source, build = (_Several(["price", "score"], answers(off)) for off in (0, 0.01))
        assert compared(source, build).scaled_error == pytest.approx(0.01)


class TestSizes:
    SIZES = (1, 2, 3, 8)

    @pytest.mark.parametrize("wrong", [None, 3])
    def test_rows_of_all_requests_in_one_axis_are_shared_out(self, wrong):
        """As `view(-1, classes)` makes them: four rows for each request."""

        def tokens(off):
            return lambda x: np.repeat(np.hstack([x, x + 1]) + np.where(x == wrong, off, 0), 4, axis=0)

        parity = compared(_Played("logits", tokens(0)), _Played("logits", tokens(1)), self.SIZES)
        assert (parity.max_abs_error, parity.source_batch_error) == (0 if wrong is None else 1, 0)

    @pytest.mark.parametrize("count", [6, 8, 5])
    def test_what_belongs_to_no_request_is_compared_run_by_run(self, count):
        def anchors(off):
            boxes = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
            boxes[-1, -1] += off
            return lambda x: {"scores": np.hstack([x, -x]), "anchors": boxes}

        source, build = (_Several(["scores", "anchors"], anchors(off)) for off in (0, 0.5))
        assert compared(source, source, self.SIZES).max_abs_error == 0
        assert compared(source, build, self.SIZES).max_abs_error == 0.5

    def test_a_label_of_a_whole_run_is_that_of_its_samples(self):
        versions = (_Several(["version"], lambda _, number=number: {"version": np.array(number)}) for number in (1, 2))
        assert compared(*versions, self.SIZES).top1_agreement == 0

    @pytest.mark.parametrize("rows", ["n", 4])
    def test_an_output_without_axes_is_compared_run_by_run(self, tmp_path, rows):
        value = onnx.helper.make_tensor_value_info
        mean = onnx.helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0)
        inputs, outputs = [value("x", onnx.TensorProto.FLOAT, [rows, 1])], [value("mean", onnx.TensorProto.FLOAT, [])]
        graph = onnx.helper.make_graph([mean], "mean", inputs, outputs)
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "mean.onnx")
        parity = compared(tmp_path / "mean.onnx", tmp_path / "mean.onnx", (4,))
        assert (parity.max_abs_error, parity.cosine, parity.top1_agreement) == (0, 1, None)

    def test_an_answer_without_any_row_can_be_compared(self):
        nothing = _Played("boxes", lambda x: np.zeros((0, 4), np.float32))
        assert compared(nothing, nothing, self.SIZES).cosine == 1

    def test_an_output_whose_size_follows_from_values_is_named(self):
        growing = _Played("boxes", lambda x: np.zeros((1, int(x.sum()) + 2, 4), np.float32))
        with pytest.raises(
            ParityError, match=r"output boxes \(\[2, 4\] and \[3, 4\]\): has another size for one request.*`batch: none`"
        ):
            reference_outputs(growing, NUMBERED, (1,), batched=True)

    def test_a_build_whose_output_has_another_shape_is_refused(self):
        one, two = (_Played("y", lambda x, wide=wide: np.zeros((len(x), wide), np.float32)) for wide in (1, 2))
        with pytest.raises(ParityError, match=r"output y: has shape \[10, 2\] at batch size 1, its source \[10, 1\]"):
            compared(one, two)

    def test_samples_of_different_lengths_run_alone_and_are_not_joined(self):
        texts = [{"x": np.zeros((1, length), np.float32)} for length in range(3, 13)]
        first = _Played("y", lambda x: x[:, :1])
        assert reference_outputs(first, texts, (1,))[1]["y"].shape == (10, 1)
        with pytest.raises(CodecError, match=r"samples, input x .*cannot be joined to a batch of 8.*batches: \[1\]"):
            reference_outputs(first, texts, (1, 8))

    def test_an_input_without_axes_is_sent_as_it_is(self):
        rates = [{"x": np.array(rate, np.float32)} for rate in (8000, 16000)]
        answers = reference_outputs(_Played("y", lambda x: x[None]), rates, (1,))
        np.testing.assert_array_equal(answers[1]["y"], [8000, 16000])
