"""Generated inputs: the same everywhere, inside the model's types and tables, and refused where they would be a guess."""

import hashlib
import tracemalloc

import numpy as np
import onnx
import pytest
from e2e_small_model import classifier, write_model_folder
from onnx import TensorProto, helper, numpy_helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature
from gpuserve_images.spec import load_model
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.inputs import verification_inputs
from gpuserve_images.verify.known import Known
from gpuserve_images.verify.parity import measure, reference_outputs
from gpuserve_images.verify.spec import GenerateSpec, VerifySpec
from gpuserve_images.verify.tables import table_sizes

VOCABULARY = 30


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs=inputs, outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 2)),), opset=17)


def tensor(dtype: str, *shape: int, name: str = "x") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def made(dtype: str, **spec: object) -> np.ndarray:
    return np.concatenate([request["x"] for request in generate(signature(tensor(dtype, -1, 50)), GenerateSpec.parse(spec))])


def text_model(folder, vocabulary: int = VOCABULARY):
    """Token ids, cast and looked up in a table; a mask that no table bounds."""
    random = np.random.default_rng(0)
    table = numpy_helper.from_array(random.normal(size=(vocabulary, 7)).astype(np.float32), "table")
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "wide"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["share", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceMean", ["kept"], ["y"], axes=[1], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", "length"]),
        helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "length"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 7])]
    weights = [table, numpy_helper.from_array(np.array([-1]), "last")]
    graph = helper.make_graph(nodes, "text", inputs, outputs, weights)
    path = folder / "text.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_widest_range_holds_no_infinity():
    spec = GenerateSpec(ranges={"x": (-1.7e308, 1.7e308)})
    numbers = np.array([request["x"] for request in generate(signature(tensor("FP64", -1, 2)), spec)])
    assert np.isfinite(numbers).all()
    assert numbers.min() < 0 < numbers.max()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("FP32", -1, 1),
        ("FP16", -1, 1),
        ("UINT8", 0, 255),
        ("INT8", -128, 127),
        ("INT64", 0, 1),
        ("UINT32", 0, 1),
        ("BOOL", 0, 1),
    ],
)
def test_ranges_follow_the_type(dtype, low, high):
    values = made(dtype)
    assert values.dtype == tensor(dtype, 1).numpy_dtype
    assert values.shape == (32, 50)
    assert values.min() >= low
    assert values.max() <= high
    # Both ends are near: the range is used, not only kept.
    assert values.min() <= low + 0.02 * (high - low)
    assert values.max() >= high - 0.02 * (high - low)


def test_text_is_words():
    assert made("BYTES")[0, 0].isalpha()


def test_the_same_seed_gives_the_same_bytes_for_ever():
    first, again, other = made("FP32", seed=1), made("FP32", seed=1), made("FP32", seed=2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # The parity figures of an image stand in its annotations: another NumPy must not change them.
    assert hashlib.sha256(made("INT8").tobytes()).hexdigest()[:16] == DIGEST


DIGEST = "4d84cb9b9910deb3"


INPUTS = tuple(
    tensor(dtype, -1, 3, name=name)
    for name, dtype in (("a", "FP32"), ("words", "BYTES"), ("b", "INT64"), ("c", "FP16"), ("d", "BOOL"))
)


@pytest.mark.parametrize("block", [2, 2**20])
def test_a_request_is_the_same_whenever_it_is_made_and_in_whatever_blocks(block, monkeypatch):
    monkeypatch.setattr("gpuserve_images.verify.generated._BLOCK", block)
    requests = generate(signature(*INPUTS), GenerateSpec(count=5, seed=3))
    last = [(name, array.tolist()) for name, array in requests[-1].items()]
    texts = [repr((name, array.dtype.str, array.tolist())) for request in requests for name, array in request.items()]
    # Of the values as they were when all requests were made in one go.
    assert hashlib.sha256("".join(texts).encode()).hexdigest()[:16] == "85cfa08f204c6fda"
    assert [(name, array.tolist()) for name, array in requests[2:][-1].items()] == last
    assert (len(requests), len(requests[1:3]), len(requests[::2])) == (5, 2, 3)


def test_requests_are_not_in_memory_together():
    requests = generate(signature(tensor("FP32", -1, 2**20)), GenerateSpec(count=32))
    tracemalloc.start()
    for request in requests:
        assert request["x"].shape == (1, 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 4 * 2**20


@pytest.mark.parametrize(
    ("shape", "spec", "batch", "words"),
    [
        # The product of these is 2**64, which is 0 in 64 bits.
        (
            (2**32, 2**32),
            {},
            1,
            r"input x \(FP32 \[4294967296, 4294967296\]\): makes a request of 68,719,476,736.0 GiB, and 2.0 GiB",
        ),
        ((2**40,), {}, 1, "makes a request of 4,096.0 GiB.*Fix: .*export the model with smaller ones"),
        ((-1, -1, 2**20), {"shapes": {"x": (2**20, 2**20)}}, 1, "Fix: Give smaller `verify.generate.shapes`"),
        ((-1, 2**28), {}, 8, r"makes a batch of 8 take 8.0 GiB, and 4.0 GiB.*Fix: Lower `batch.max`, or name sizes up to 4 in"),
    ],
)
def test_what_memory_does_not_hold_is_refused_before_it_is_made(shape, spec, batch, words):
    with pytest.raises(SourceError, match=words):
        generate(signature(tensor("FP32", *shape)), GenerateSpec.parse(spec), batch=batch)


def test_answers_that_memory_does_not_hold_are_refused():
    large = Signature(
        inputs=(tensor("FP32", -1, 2),), outputs=(TensorSpec(name="mask", dtype="FP32", shape=(-1, 2**26)),), opset=17
    )
    words = r"verify.generate.count \(32\): makes answers of 8.0 GiB \(output mask is FP32 .*Fix: Write 16 or less"
    with pytest.raises(SourceError, match=words):
        generate(large, GenerateSpec())
    assert len(generate(large, GenerateSpec(count=16))) == 16


@pytest.mark.parametrize("dims", [(2**32, 2**32), (2**40,)])
def test_a_model_of_absurd_size_is_a_sentence(tmp_path, dims):
    """Whatever the dimensions of an ONNX file say: they are numbers in a file."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "huge", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "huge.onnx")
    model = load_model(write_model_folder(tmp_path / "model", source={"file": "../huge.onnx"}, verify={"max_abs_error": 1}))
    file = tmp_path / "huge.onnx"
    with pytest.raises(SourceError, match="makes a request of"):
        verification_inputs(model, "fp32", tmp_path / "model", read_signature(file), file)


def test_the_batches_of_the_model_bound_its_requests(tmp_path):
    model = load_model(write_model_folder(tmp_path / "model", batch={"max": 16}, verify={"max_abs_error": 1}))
    few = model.model_copy(update={"verify": VerifySpec.parse({"max_abs_error": 1, "batches": [8]})})
    wide = signature(tensor("FP32", -1, 2**27))
    with pytest.raises(SourceError, match=r"makes a batch of 16 take 8.0 GiB"):
        verification_inputs(model, "fp32", tmp_path, wide, None)
    assert len(verification_inputs(few, "fp32", tmp_path, wide, None).tensors) == 32


def test_batches_of_samples_that_fill_the_memory_are_refused(tmp_path):
    model = load_model(
        write_model_folder(
            tmp_path / "model", batch={"max": 8}, verify={"inputs": "samples", "batches": [1, 2**28], "cosine": 0.9}
        )
    )
    source = read_signature(tmp_path / "model/small.onnx")
    words = (
        r"verify.inputs: makes a batch of 268435456 samples of 32 bytes take 8.0 GiB, and 4.0 GiB is the most that is joined. "
        "Fix: Lower `batch.max`, or name sizes up to 134217728 in `verify.batches`"
    )
    with pytest.raises(SourceError, match=words):
        verification_inputs(model, "fp32", tmp_path / "model", source, None)


def test_token_ids_stay_inside_the_models_own_table(tmp_path):
    path = text_model(tmp_path)
    assert table_sizes(path) == {"ids": VOCABULARY}
    spec = GenerateSpec(shapes={"ids": (12,), "mask": (12,)})
    requests = generate(read_signature(path), spec, Known.of(path))
    ids = np.concatenate([request["ids"] for request in requests])
    assert (ids.min(), ids.max()) == (0, VOCABULARY - 1)
    assert {int(value) for request in requests for value in request["mask"].ravel()} == {0, 1}
    assert measure(path, reference_outputs(path, requests, (1, 4)), requests).max_abs_error < 1e-6
    outside = generate(read_signature(path), GenerateSpec(shapes=spec.shapes, ranges={"ids": (0, VOCABULARY + 5)}))
    with pytest.raises(Exception, match="indices element out of data bounds"):
        reference_outputs(path, outside, (1,))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"ranges": {"y": (0, 1)}}, r"verify.generate.ranges \(y\): names no input of the model. Fix: Use one of 'x'"),
        ({"shapes": {"xx": (3,)}}, r"verify.generate.shapes \(xx\): .*Did you mean 'x'\?"),
        (
            {"ranges": {"x": (0, 300)}},
            r"verify.generate.ranges.x \(\[0, 300\]\): leaves what UINT8 can hold. Fix: .* 0 and 255",
        ),
        ({"ranges": {"x": (-1, 1)}}, "leaves what UINT8 can hold"),
        ({"ranges": {"x": (0, 0.5)}}, "has fractions"),
        ({"shapes": {"x": (4, 4)}}, r"verify.generate.shapes.x \(\[4, 4\]\): contradicts the model's input"),
        ({"shapes": {"x": (51,)}}, "contradicts the model's input"),
    ],
)
def test_a_spec_that_does_not_fit_the_model_is_refused(spec, words):
    with pytest.raises(SourceError, match=words):
        generate(signature(tensor("UINT8", -1, 50)), GenerateSpec.parse(spec))


def test_wider_integers_than_a_double_holds_are_refused():
    with pytest.raises(SourceError, match="leaves what INT64 can hold"):
        generate(signature(tensor("INT64", -1, 2)), GenerateSpec(ranges={"x": (0, 2.0**63)}))


def test_an_open_dimension_is_asked_for_and_not_guessed():
    with pytest.raises(SourceError, match=r"shapes.x: has open dimensions \[3, -1\].*Fix: .*`shapes: {x: \[3, 16\]}`"):
        generate(signature(tensor("FP32", -1, 3, -1)), GenerateSpec())


def test_all_open_dimensions_are_asked_for_at_once():
    texts = signature(tensor("INT64", -1, -1, name="ids"), tensor("INT64", -1, -1, name="mask"), tensor("FP32", -1, 3))
    said = r"shapes: these inputs have open dimensions behind the batch axis.*: ids \[-1\], mask \[-1\]. Fix: .*`shapes: {ids: \[16\], mask: \[16\]}`"
    with pytest.raises(SourceError, match=said):
        generate(texts, GenerateSpec())
    with pytest.raises(SourceError, match=r"shapes.mask: has open dimensions \[-1\]"):
        generate(texts, GenerateSpec.parse({"shapes": {"ids": [8]}}))


@pytest.mark.parametrize(
    ("verify", "words"),
    [
        ({"inputs": "samples", "generate": {"count": 4}}, "keep `inputs:`"),
        ({"generate": {"count": 0}}, "greater than or equal to 1"),
        ({"generate": {"ranges": {"x": [3, 1]}}}, "ends at 1 before it starts at 3"),
        ({"generate": {"shape": {}}}, "did you mean 'shapes'"),
    ],
)
def test_a_wrong_section_is_refused(verify, words):
    with pytest.raises(SpecError, match=words):
        VerifySpec.parse(verify)


def test_no_inputs_means_generated_ones(tmp_path):
    model = load_model(write_model_folder(tmp_path / "model", verify={"top1_agreement": 0.9}))
    assert model.verify.generated == GenerateSpec()
    with_samples = load_model(write_model_folder(tmp_path / "other"))
    assert with_samples.verify.generated is None


def test_a_source_that_is_no_file_is_a_source_all_the_same(tmp_path):
    class Framework:
        """As a model in its own framework stands behind parity."""

        signature = read_signature(write_model_folder(tmp_path / "model").parent / "small.onnx")
        outputs = ("scores",)

        def __init__(self, wrong=0.0):
            self.inner, self.wrong = Session(tmp_path / "model" / "small.onnx"), wrong

        def run(self, inputs):
            return {"scores": self.inner.run(inputs)["scores"] + self.wrong}

    build = tmp_path / "model" / "small.onnx"
    requests = generate(Framework.signature, GenerateSpec(count=5))
    assert measure(build, reference_outputs(Framework(), requests, (1, 4)), requests).max_abs_error < 1e-6
    assert measure(build, reference_outputs(Framework(0.25), requests, (1,)), requests).max_abs_error == pytest.approx(0.25)
    with pytest.raises(ParityError, match=r"verify\.generate\.ranges"):
        reference_outputs(Framework(np.nan), requests, (1,))


def test_every_batch_has_the_size_that_is_judged(tmp_path):
    onnx.save(classifier(), tmp_path / "m.onnx")
    sizes = []

    class Watching(Session):
        def run(self, inputs, /):
            sizes.append(len(inputs["x"]))
            return super().run(inputs)

    requests = generate(read_signature(tmp_path / "m.onnx"), GenerateSpec(count=5))
    reference = reference_outputs(Watching(tmp_path / "m.onnx"), requests, (1, 4, 16))
    assert sizes == [1] * 5 + [4] * 2 + [16]
    assert [len(outputs["scores"]) for outputs in reference.values()] == [5, 5, 5]


def test_a_model_without_a_batch_axis_is_one_row_a_request(tmp_path):
    onnx.save(classifier(batch=3), tmp_path / "m.onnx")
    requests = generate(read_signature(tmp_path / "m.onnx"), GenerateSpec(count=4))
    assert requests[0]["x"].shape == (3, 8)
    parity = measure(tmp_path / "m.onnx", reference_outputs(tmp_path / "m.onnx", requests, (1,)), requests)
    assert (parity.samples, parity.top1_agreement) == (4, 1.0)
