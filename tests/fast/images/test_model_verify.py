"""Parity: the measures, the bars, and what cannot pass."""

import numpy as np
import onnx
import pytest
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.samples.codec import Codec, CodecError, batches, encode_all, load_codec
from gpuserve_images.verify.differences import Parity
from gpuserve_images.verify.parity import ParityError, judge, measure, reference_outputs
from gpuserve_images.verify.spec import BarsSpec

PARITY = Parity(
    samples=100,
    batches=(1,),
    max_abs_error=1e-3,
    max_rel_error=0.02,
    cosine=0.98,
    top1_agreement=0.97,
    top5_agreement=0.99,
    disagreeing=("a.py", "b.py"),
)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture
def samples():
    random = np.random.default_rng(3)
    return [{"x": random.normal(size=(1, FEATURES)).astype(np.float32)} for _ in range(21)]


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
    parity = measure(build, reference_outputs(source, samples, (1, 8)), samples, names=names)
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
        ({"max_rel_error": 0.01}, ["max_rel_error is 0.02, the bar is 0.01"]),
        ({"cosine": 0.99}, ["cosine is 0.98, the bar is 0.99"]),
        ({"top1_agreement": 0.97}, []),
        ({"top1_agreement": 0.98, "cosine": 0.99}, ["top1_agreement is 0.97", "cosine is 0.98"]),
        ({"top5_agreement": 0.995}, ["top5_agreement is 0.99, the bar is 0.995"]),
        ({"top5_agreement": 0.99}, []),
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


def test_a_bar_that_cannot_be_measured_does_not_pass_silently():
    parity = PARITY.model_copy(update={"top1_agreement": None})
    with pytest.raises(ParityError, match="cannot be measured"):
        judge(parity, BarsSpec(top1_agreement=0.5), "b")


class _Answers:
    """A model that always answers the same, row by row."""

    def __init__(self, rows: "list[list[float]]") -> None:
        self.outputs, self.rows, self.signature = ["scores"], np.array(rows, np.float32), None

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


class TestSamplesToTensors:
    def codec(self, make):
        return Codec(make, str)

    def test_batches_hold_every_sample_in_order(self, samples):
        joined = np.concatenate([batch["x"] for batch in batches(samples, 8)])
        assert np.array_equal(joined, np.concatenate([sample["x"] for sample in samples]))
        assert [len(batch["x"]) for batch in batches(samples, 8, whole=True)] == [8, 8, 8]
        assert [len(batch["x"]) for batch in batches(samples[:3], 8, whole=True)] == [8]

    def test_files_that_the_model_cannot_read_are_left_out(self, source, tmp_path):
        files = [tmp_path / str(index) for index in range(10)]

        def encode(path):
            if path.name == "4":
                raise ValueError("too short")
            return {"x": np.zeros((1, FEATURES), np.float32)}

        encoded = encode_all(self.codec(encode), files, read_signature(source), "verify.inputs")
        assert [file.name for file in encoded.files] == list("012356789")

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"y": np.zeros((1, FEATURES), np.float32)}, "other inputs than the model has"),
            ({"x": np.zeros((1, FEATURES), np.float64)}, r"another type or shape.*FP32 of shape \[-1, 8\]"),
            ({"x": np.zeros((FEATURES,), np.float32)}, r"float32 \[8\]"),
            ({"x": np.zeros((1, FEATURES + 1), np.float32)}, r"float32 \[1, 9\]"),
        ],
    )
    def test_tensors_that_do_not_fit_are_refused(self, source, tmp_path, tensors, words):
        with pytest.raises(CodecError, match=words):
            encode_all(self.codec(lambda _: tensors), [tmp_path / "a"] * 8, read_signature(source), "verify.inputs")

    def test_too_few_samples_judge_nothing(self, source, tmp_path):
        def encode(_):
            raise ValueError("is no tensor")

        with pytest.raises(CodecError, match=r"verify.inputs: has 0 usable samples of 9 files; a: is no tensor"):
            encode_all(self.codec(encode), [tmp_path / "a"] * 9, read_signature(source), "verify.inputs")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("import no_such_module", "fails when it is loaded: ModuleNotFoundError"),
            ("def encode(path): ...", "defines no function `decode`"),
            (None, "does not exist"),
        ],
    )
    def test_a_broken_io_file_is_named(self, tmp_path, text, words):
        if text is not None:
            (tmp_path / "io.py").write_text(text)
        with pytest.raises(CodecError, match=words):
            load_codec("io.py", tmp_path)


class _Played:
    """A model of one output that answers as a function says."""

    def __init__(self, name, answer) -> None:
        self.outputs, self.answer, self.signature = [name], answer, None

    def run(self, inputs):
        return {self.outputs[0]: self.answer(inputs["x"])}


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

    def test_numbers_have_no_text(self, source, samples):
        assert measure(source, reference_outputs(source, samples, (1,)), samples).text_agreement is None

    @pytest.mark.parametrize("bars", [{"max_abs_error": 1e-4}, {"cosine": 0.9999}])
    def test_true_and_false_are_one_and_zero(self, bars):
        parity = compared(_Played("ok", lambda x: x > 4), _Played("ok", lambda x: x <= 4))
        assert (parity.max_abs_error, parity.cosine, parity.top1_agreement, parity.text_agreement) == (1, 0, 0, None)
        with pytest.raises(ParityError, match="strays too far"):
            judge(parity, BarsSpec(**bars), "fp32")


class TestSizes:
    def test_an_output_whose_size_follows_from_values_is_named(self):
        growing = _Played("boxes", lambda x: np.zeros((1, int(x.sum()) + 2, 4), np.float32))
        with pytest.raises(ParityError, match=r"output boxes \(\[2, 4\] and \[3, 4\]\): has another size for one request"):
            reference_outputs(growing, NUMBERED, (1,))

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


class TestArchives:
    @pytest.fixture
    def folder(self, tmp_path):
        for number in range(10):
            np.savez(tmp_path / f"{number}.npz", x=np.zeros((1, FEATURES), np.float32))
        return tmp_path

    def encoded(self, folder, source):
        files = sorted(path for path in folder.iterdir() if path.suffix in {".npz", ".npy"})
        return encode_all(load_codec(None, folder), files, read_signature(source), "verify.inputs").files

    def test_what_is_no_archive_or_half_of_one_is_left_out(self, folder, source):
        np.save(folder / "a.npy", np.zeros((1, FEATURES), np.float32))
        whole = (folder / "0.npz").read_bytes()
        (folder / "0.npz").write_bytes(whole[: len(whole) // 2])
        (folder / "1.npz").write_bytes(b"")
        assert [file.name for file in self.encoded(folder, source)] == [f"{number}.npz" for number in range(2, 10)]

    def test_damaged_content_is_left_out(self, tmp_path, source):
        np.savez_compressed(tmp_path / "0.npz", x=np.random.default_rng(0).normal(size=(1, FEATURES)).astype(np.float32))
        content = bytearray((tmp_path / "0.npz").read_bytes())
        content[60:90] = bytes(30)
        (tmp_path / "0.npz").write_bytes(content)
        with pytest.raises(
            CodecError, match=r"0 usable samples of 1 files; 0.npz: cannot be read, perhaps it was copied in part"
        ):
            self.encoded(tmp_path, source)

    def test_several_rows_are_not_one_request(self, folder, source):
        np.savez(folder / "0.npz", x=np.zeros((4, FEATURES), np.float32))
        with pytest.raises(CodecError, match=r"float32 \[4, 8\].*a request has a batch of 1"):
            self.encoded(folder, source)
