"""Options of a Triton repository, read back by Triton's own protobuf, and the combinations that are refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.layouts.choosing import lay_out, require_server
from gpuserve_images.layouts.found import with_found_outputs
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import LayoutSpec
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.layouts.triton_warmup import raw
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 3)), TensorSpec(name="text", dtype="BYTES", shape=(-1,))),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 1)),),
    opset=17,
)
GPU = Target("gpu")


@pytest.fixture
def model(tmp_path):
    (tmp_path / "fp32.onnx").write_bytes(b"graph")
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return ServedModel.of("m", "onnx", tmp_path / "fp32.onnx", SIGNATURE, beside=[tmp_path / "weights.bin"])


def laid(model, target=GPU, samples=(), **options):
    files, _ = lay_out("triton", model, Wishes(options=LayoutSpec.parse(options), target=target, samples=samples))
    return files, parse_config(files["/models/m/config.pbtxt"].decode())


def test_external_data_keeps_the_name_that_the_model_knows(model):
    files, _ = laid(model)
    assert {"/models/m/1/model.onnx", "/models/m/1/weights.bin"} <= set(files)


def test_external_data_that_is_called_as_the_model_is_not_served_in_its_place(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"weights")
    clash = ServedModel.of("m", "onnx", tmp_path / "fp32.onnx", SIGNATURE, beside=[tmp_path / "model.onnx"])
    with pytest.raises(
        LayoutError, match=r"model m \(model.onnx\): keeps weights in a file that .* which is fp32.onnx here. Fix: Save"
    ):
        laid(clash)


def shapes(config):
    """Return what clients see of each tensor, and what the model gets of it where that is something else."""
    return {
        tensor.name: (list(tensor.dims), list(tensor.reshape.shape) if tensor.HasField("reshape") else None)
        for tensor in (*config.input, *config.output)
    }


def test_a_batched_tensor_of_one_axis_reaches_the_model_with_that_axis_alone(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    label = TensorSpec(name="label", dtype="INT64", shape=(-1,))
    signature = SIGNATURE.model_copy(update={"outputs": (*SIGNATURE.outputs, label)})
    _, config = laid(ServedModel.of("m", "onnx", tmp_path / "model.onnx", signature))
    assert config.max_batch_size > 0
    assert shapes(config) == {"x": ([3], None), "text": ([1], []), "y": ([1], None), "label": ([1], [])}


@pytest.mark.parametrize(("shape", "dims"), [((), [1]), ((1,), [1]), ((-1,), [-1])])
def test_nothing_is_reshaped_without_a_batch(tmp_path, shape, dims):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    tensors = {
        "inputs": (TensorSpec(name="x", dtype="FP32", shape=(1,)),),
        "outputs": (TensorSpec(name="y", dtype="FP32", shape=shape),),
    }
    _, config = laid(ServedModel.of("m", "onnx", tmp_path / "model.onnx", Signature(opset=17, **tensors)))
    assert (config.max_batch_size, shapes(config)) == (0, {"x": ([1], None), "y": (dims, None)})


def loose(folder, name="loose", *, hidden=False):
    """Write a model whose output is more than it says: N rows of M, and M is always 10, which nobody can infer where it is hidden."""
    value = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.ones((3, 10), np.float32), "w")
    kept = numpy_helper.from_array(np.ones(10, np.bool_), "kept")
    x, y = value("x", TensorProto.FLOAT, ["N", 3]), value("y", TensorProto.FLOAT, ["N", "M"])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["all" if hidden else "y"])]
    nodes += [helper.make_node("Compress", ["all", "kept"], ["y"], axis=1)] if hidden else []
    graph = helper.make_graph(nodes, "loose", [x], [y], [weights, kept] if hidden else [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


@pytest.mark.parametrize("server", ["triton", "kserve"])
@pytest.mark.parametrize(
    "build", [{"engine": "onnxruntime", "optimise": "basic"}, {"engine": "native"}], ids=["basic", "native"]
)
def test_outputs_are_as_onnx_runtime_finds_them_in_the_file_of_the_image(tmp_path, server, build):
    assert read_signature(loose(tmp_path)).outputs[0].shape == (-1, -1)
    spec = ModelSpec.parse({"name": "m", "source": {"file": "loose.onnx"}, "builds": {"b": build}})
    with Runner(tmp_path / "cache") as runner:
        files = make(plan(Job(spec, "b", tmp_path, Target(server=server)), "registry/base:1"), runner).files(runner)
        config = parse_config(files["/models/m/config.pbtxt"].read_text())
    assert shapes(config) == {"x": ([3], None), "y": ([10], None)}


def test_names_types_and_inputs_are_those_of_the_source_whatever_is_found(tmp_path):
    path = loose(tmp_path)
    model = ServedModel.of("m", "onnx", path, read_signature(path))
    found = with_found_outputs(model)
    assert found.versions == model.versions
    assert found.signature.inputs == model.signature.inputs
    assert found.signature.outputs == (TensorSpec(name="y", dtype="FP32", shape=(-1, 10)),)


@pytest.fixture
def differing(tmp_path):
    """Return a model whose first version tells more of its output than its second."""
    first, second = loose(tmp_path), loose(tmp_path, "hidden", hidden=True)
    versions = {1: ModelFiles.of(first), 2: ModelFiles.of(second)}
    return ServedModel("m", "onnx", versions, read_signature(first))


@pytest.mark.parametrize(("offered", "shape"), [((), (-1, -1)), ((1,), (-1, 10)), ((2,), (-1, -1))])
def test_a_configuration_is_that_of_the_version_that_is_offered(differing, offered, shape):
    assert with_found_outputs(differing, offered).signature.outputs[0].shape == shape


def test_versions_that_one_configuration_does_not_fit_are_refused_where_triton_compares(differing):
    with pytest.raises(
        LayoutError, match=r"versions 1 and 2 of m .* output y .* \[-1, 10\] in one and \[-1, -1\] in the other"
    ):
        with_found_outputs(differing, (1, 2))
    assert with_found_outputs(differing, (1, 2), exact=False).signature.outputs[0].shape == (-1, -1)


@pytest.mark.parametrize(("versions", "kind"), [("all", "cpu"), ("all", "gpu"), ({"only": [1]}, "gpu")])
def test_builds_of_one_image_are_compared_as_they_are_offered(tmp_path, versions, kind):
    loose(tmp_path)
    builds = {"fp32": {"engine": "onnxruntime"}, "plain": {"engine": "onnxruntime", "optimise": "none"}}
    layout = {"numbers": {1: "fp32", 2: "plain"}, "versions": versions}
    spec = ModelSpec.parse({"name": "m", "source": {"file": "loose.onnx"}, "builds": builds, "layout": layout})
    with Runner(tmp_path / "cache") as runner:
        files = make(plan(Job(spec, "fp32", tmp_path, Target(kind)), "registry/base:1"), runner).files(runner)
    assert shapes(parse_config(files["/models/m/config.pbtxt"].read_text())) == {"x": ([3], None), "y": ([10], None)}


def test_what_onnx_runtime_cannot_load_or_tell_stays_as_it_was_declared(model, tmp_path):
    assert with_found_outputs(model) == model
    value = helper.make_tensor_value_info
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    inputs = [value("x", TensorProto.FLOAT, ["N", 3]), value("shape", TensorProto.INT64, ["R"])]
    graph = helper.make_graph([node], "unknown", inputs, [value("y", TensorProto.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "unknown.onnx")
    unknown = ServedModel.of("m", "onnx", tmp_path / "unknown.onnx", SIGNATURE)
    assert with_found_outputs(unknown) == unknown


def test_instances_where_they_are_wanted(model):
    groups = [{"count": 2, "gpus": [0, 1]}, {"count": 4, "kind": "cpu"}, {}]
    _, config = laid(model, instances=groups)
    found = [(group.count, group.Kind.Name(group.kind), list(group.gpus)) for group in config.instance_group]
    assert found == [(2, "KIND_GPU", [0, 1]), (4, "KIND_CPU", []), (1, "KIND_GPU", [])]
    _, config = laid(model, target=Target(), instances=3)
    assert [(group.count, group.Kind.Name(group.kind)) for group in config.instance_group] == [(3, "KIND_CPU")]


def test_threads_cache_and_tensorrt_reach_the_config(model):
    options = {"threads": {"intra_op": 0, "inter_op": 2}, "response_cache": True}
    _, config = laid(model, **options, tensorrt={"precision": "fp16", "workspace": "2Gi"})
    assert {name: value.string_value for name, value in config.parameters.items()} == {
        "intra_op_thread_count": "0",
        "inter_op_thread_count": "2",
    }
    assert config.response_cache.enable
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {"precision_mode": "FP16", "max_workspace_size_bytes": str(2 << 30)}


def test_nothing_is_written_that_nobody_asked_for(model):
    _, config = laid(model)
    assert not config.parameters
    for field in ("version_policy", "response_cache", "optimization"):
        assert not config.HasField(field)


def test_samples_of_text_and_numbers_become_raw_files(model):
    sample = {"x": np.arange(3, dtype=np.float32).reshape(1, 3), "text": np.array(["grün"], dtype=object)}
    files, config = laid(model, warmup="samples", samples=[sample] * 9)
    assert [warmup.name for warmup in config.model_warmup] == [
        "sample-0-1",
        "sample-0-8",
        "sample-1-1",
        "sample-2-1",
        "sample-3-1",
    ]
    entry = config.model_warmup[0].inputs["x"]
    assert (list(entry.dims), files[f"/models/m/warmup/{entry.input_data_file}"]) == ([3], sample["x"].tobytes())
    entry = config.model_warmup[0].inputs["text"]
    assert (list(entry.dims), files[f"/models/m/warmup/{entry.input_data_file}"]) == ([1], b"\x05\0\0\0" + "grün".encode())
    assert raw(np.array([1], dtype=">i4")) == b"\x01\0\0\0"


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (Target(), {"instances": [{"gpus": [0]}]}, r"layout.instances\[0\]: asks for GPUs in an image for CPUs"),
        (Target(), {"tensorrt": {}}, "layout.tensorrt: needs a GPU"),
        (GPU, {"warmup": "samples"}, "layout.warmup: wants samples, and the model names none"),
        (GPU, {"versions": {"only": [1, 4]}}, r"layout.versions.only \(4\): is no version of model m, which has \[1\]"),
    ],
)
def test_contradictions_are_refused(model, target, options, words):
    with pytest.raises(LayoutError, match=words):
        laid(model, target, **options)


def test_options_of_onnx_runtime_are_refused_for_engines(tmp_path):
    (tmp_path / "model.plan").write_bytes(b"engine")
    engine = ServedModel("m", "tensorrt", {1: ModelFiles.of(tmp_path / "model.plan")}, SIGNATURE)
    for options, field in (({"threads": {"intra_op": 1}}, "layout.threads"), ({"tensorrt": {}}, "layout.tensorrt")):
        with pytest.raises(LayoutError, match=f"{field}: is about ONNX Runtime, and the model is tensorrt"):
            laid(engine, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"instances": 0}, "greater than or equal to 1"),
        ({"instances": []}, "at least 1"),
        ({"instances": [{"kind": "cpu", "gpus": [0]}]}, "runs on the CPU, but names GPUs"),
        ({"versions": {"latest": 2, "all": True}}, "is no single policy"),
        ({"versions": {}}, "is no single policy"),
        ({"versions": {"latest": 2**32}}, r"versions\.latest = 4294967296: input should be less than or equal to 4294967295"),
        ({"versions": {"only": [2**63]}}, "less than or equal to 9223372036854775807"),
        ({"numbers": {2**63: "fp32"}}, "less than or equal to 9223372036854775807"),
        ({"warmup": "ones"}, "use 'zeros', 'samples' or 'none'"),
        ({"cache": True}, "unknown field"),
        ({"tensorrt": {"workspace": "1Gb"}}, "units"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(SpecError, match=words):
        LayoutSpec.parse(options)


def test_the_largest_numbers_reach_the_config(model):
    assert LayoutSpec.parse({"numbers": {2**63 - 1: "fp32"}, "versions": {"only": [2**63 - 1]}}).versions.only == (2**63 - 1,)
    assert laid(model, versions={"latest": 2**32 - 1})[1].version_policy.latest.num_versions == 2**32 - 1


def test_a_server_that_cannot_serve_the_format_is_refused_with_those_that_can():
    require_server("triton", "onnx")
    with pytest.raises(LayoutError, match=r"runtime \(trition\): is no server .* did you mean 'triton'"):
        require_server("trition", "onnx")
    with pytest.raises(LayoutError, match=r"runtime \(triton\): cannot serve paddle models"):
        require_server("triton", "paddle")
