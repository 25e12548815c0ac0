"""Options of a Triton repository, read back by Triton's own protobuf, and the combinations that are refused."""

import numpy as np
import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.layouts.choosing import lay_out, require_server
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import LayoutSpec
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.layouts.triton_warmup import raw
from gpuserve_images.onnx_model.signature import Signature, TensorSpec
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
        ({"warmup": "ones"}, "use 'zeros', 'samples' or 'none'"),
        ({"cache": True}, "unknown field"),
        ({"tensorrt": {"workspace": "1Gb"}}, "units"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(SpecError, match=words):
        LayoutSpec.parse(options)


def test_a_server_that_cannot_serve_the_format_is_refused_with_those_that_can():
    require_server("triton", "onnx")
    with pytest.raises(LayoutError, match=r"runtime \(trition\): is no server .* did you mean 'triton'"):
        require_server("trition", "onnx")
    with pytest.raises(LayoutError, match=r"services\[0\].runtime \(triton\): cannot serve paddle models"):
        require_server("triton", "paddle", field="services[0].runtime")
