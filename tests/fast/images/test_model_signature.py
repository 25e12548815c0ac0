"""A model's own signature, and the `config.pbtxt` that Triton's protobuf reads back."""

from pathlib import Path

import onnx
import pytest
from e2e_small_model import CLASSES, FEATURES, classifier
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.layouts.triton import ROOT, repository
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.onnx_model.signature import DATA_TYPES, Signature, TensorSpec, read_signature
from gpuserve_images.target import Target


def config(signature, wishes=None, *, form="onnx"):
    model = ServedModel("m", form, {1: ModelFiles("model.onnx", {"model.onnx": Path(__file__)})}, signature)
    return bytes(repository(model, wishes or Wishes())[0][f"{ROOT}/m/config.pbtxt"]).decode()


def write(folder, model):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def identity(dtype: int, shape: list[str | int] | None) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [value("x", dtype, shape)], [value("y", dtype, shape)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_signature_of_a_classifier(tmp_path):
    signature = read_signature(write(tmp_path, classifier()))
    assert signature == Signature(
        inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, FEATURES)),),
        outputs=(TensorSpec(name="scores", dtype="FP32", shape=(-1, CLASSES)),),
        opset=17,
    )
    assert signature.batched


def test_weights_listed_as_inputs_are_no_inputs(tmp_path):
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [FEATURES, 32]))
    assert [tensor.name for tensor in read_signature(write(tmp_path, model)).inputs] == ["x"]


@pytest.mark.parametrize(
    ("shape", "batched"), [(["n", 3], True), (["n"], True), ([1, 3], False), ([4], False), ([], False), ([2, "n"], False)]
)
def test_only_a_free_first_axis_is_a_batch_axis(tmp_path, shape, batched):
    signature = read_signature(write(tmp_path, identity(TensorProto.FLOAT, shape)))
    assert signature.batched is batched
    read = parse_config(config(signature))
    assert read.max_batch_size == (32 if batched else 0)
    assert read.HasField("dynamic_batching") is batched


@pytest.mark.parametrize("onnx_type", sorted(DATA_TYPES))
def test_every_type_reaches_the_config(tmp_path, onnx_type):
    path = write(tmp_path, identity(TensorProto.DataType.Value(onnx_type), ["n", 2]))
    signature = read_signature(path)
    text = config(signature)
    expected = "TYPE_STRING" if onnx_type == "STRING" else f"TYPE_{DATA_TYPES[onnx_type][0]}"
    # The input, the output, and the two warm-ups, which text has none of.
    assert text.count(f"data_type: {expected}") == (2 if onnx_type == "STRING" else 4)
    assert signature.inputs[0].numpy_dtype.name == DATA_TYPES[onnx_type][1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (identity(TensorProto.BFLOAT16, ["n"]), r"x \(BFLOAT16\): has a type that the inference protocol cannot carry"),
        (identity(153, ["n"]), r"x \(153\): has a type that the inference protocol cannot carry"),
        (identity(TensorProto.FLOAT, None), "x: declares no shape"),
    ],
)
def test_what_no_server_can_carry_is_refused(tmp_path, model, words):
    with pytest.raises(SourceError, match=words):
        read_signature(write(tmp_path, model))


@pytest.mark.parametrize(("shape", "axis"), [(["batch", 0], 1), ([0, 4], 0)])
def test_an_input_of_no_numbers_is_refused(tmp_path, shape, axis):
    with pytest.raises(SourceError, match=rf": x \(\[.*0.*\]\): declares a size of 0 at axis {axis}, .*Fix: .*`dim_param`"):
        read_signature(write(tmp_path, identity(TensorProto.FLOAT, shape)))


def test_sizes_that_are_negative_or_missing_are_free(tmp_path):
    model = identity(TensorProto.FLOAT, ["batch", -1])
    assert read_signature(write(tmp_path, model)).inputs[0].shape == (-1, -1)


def test_a_model_without_inputs_is_refused(tmp_path):
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    constant = helper.make_node("Constant", [], ["y"], value_floats=[1.0])
    model = helper.make_model(helper.make_graph([constant], "g", [], [value]))
    with pytest.raises(SourceError, match="has no inputs"):
        read_signature(write(tmp_path, model))


def test_a_sequence_output_is_refused(tmp_path):
    model = classifier()
    output = helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, None)
    model.graph.output[0].CopyFrom(output)
    with pytest.raises(SourceError, match=r"scores \(sequence_type\): is not a tensor"):
        read_signature(write(tmp_path, model))


DIMS = st.one_of(st.just(-1), st.integers(1, 1 << 20))
TENSORS = st.builds(
    TensorSpec,
    name=st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20),
    dtype=st.sampled_from([v2 for v2, _ in DATA_TYPES.values()]),
    shape=st.lists(DIMS, max_size=4).map(tuple),
)
SIGNATURES = st.builds(
    Signature,
    inputs=st.lists(TENSORS, min_size=1, max_size=3, unique_by=lambda tensor: tensor.name).map(tuple),
    outputs=st.lists(TENSORS, min_size=1, max_size=3).map(tuple),
    opset=st.just(17),
)


@given(signature=SIGNATURES, largest=st.integers(1, 512), kind=st.sampled_from(["cpu", "gpu"]))
def test_triton_reads_back_what_the_signature_says(signature, largest, kind):
    batch = BatchSpec(max=largest)
    read = parse_config(config(signature, Wishes(batch=batch, target=Target(kind))))
    skip = 1 if signature.batched else 0
    for fields, tensors in ((read.input, signature.inputs), (read.output, signature.outputs)):
        assert [field.name for field in fields] == [tensor.name for tensor in tensors]
        assert [tuple(field.dims) for field in fields] == [tensor.shape[skip:] or (1,) for tensor in tensors]
    assert read.max_batch_size == (largest if signature.batched else 0)
    assert all(size <= largest for size in read.dynamic_batching.preferred_batch_size)
    for warmup in read.model_warmup:
        assert 1 <= warmup.batch_size <= max(read.max_batch_size, 1)
        assert all(dim > 0 for sample in warmup.inputs.values() for dim in sample.dims)
    assert signature == Signature.model_validate_json(signature.model_dump_json())


def test_options_reach_the_config():
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 1)),),
        opset=17,
    )
    batch = BatchSpec.parse({"max": 64, "preferred": [16, 4], "queue_delay": "2.5ms"})
    read = parse_config(config(signature, Wishes(batch=batch, target=Target("gpu")), form="tensorrt"))
    assert (read.platform, read.backend, read.default_model_filename) == ("tensorrt_plan", "", "model.plan")
    assert list(read.dynamic_batching.preferred_batch_size) == [4, 16]
    assert read.dynamic_batching.max_queue_delay_microseconds == 2500
    assert read.instance_group[0].kind == read.instance_group[0].KIND_GPU


def test_the_layout_is_a_model_repository(tmp_path):
    path = write(tmp_path, classifier())
    files, record = repository(ServedModel.of("small", "onnx", path, read_signature(path)), Wishes())
    assert set(files) == {"/models/small/config.pbtxt", "/models/small/1/model.onnx"}
    assert record.options["/models/small/config.pbtxt"] == files["/models/small/config.pbtxt"].decode()


def test_a_broken_config_is_refused_by_tritons_protobuf():
    with pytest.raises(LayoutError, match="max_batchsize"):
        parse_config('name: "m" max_batchsize: 3')
