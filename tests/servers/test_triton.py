"""Layouts in the real tritonserver: batches, ensembles, cache, versions and warm-up, seen in its answers and its metrics."""

import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from e2e_small_model import CLASSES, FEATURES, classifier, write_model_folder
from environments import unpacked
from onnx import TensorProto, helper
from triton_server import TritonServer, missing
from tritonclient import grpc as triton

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, EnsembleSpec, LayoutSpec
from gpuserve_images.layouts.triton_ensemble import ensemble
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
RANDOM = np.random.default_rng(7)


def model_file(folder: Path, model: onnx.ModelProto, name: str = "model") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def served(name, path):
    return ServedModel.of(name, "onnx", path, read_signature(path))


def unpack(files, root: Path) -> Path:
    return unpacked(files, root) / "models"


def wishes(batch=None, **options):
    return Wishes(batch=BatchSpec.parse(batch or {}), options=LayoutSpec.parse(options))


def ask(server, name, tensors, version=""):
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        inputs = []
        for key, array in tensors.items():
            wire = triton.InferInput(key, array.shape, triton_np_type(array))
            wire.set_data_from_numpy(array)
            inputs.append(wire)
        answer = client.infer(name, inputs, model_version=version)
        return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


def triton_np_type(array):
    return {"float32": "FP32", "int64": "INT64", "object": "BYTES"}[array.dtype.name]


def in_process(path, tensors):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, tensors), strict=True))


def rows(count=1):
    return RANDOM.normal(size=(count, FEATURES)).astype(np.float32)


def label(name, model, version=1):
    return f'{name}{{model="{model}",version="{version}"}}'


def many_at_once(server, name, requests, output="scores"):
    answers = [None] * len(requests)

    def one(index):
        answers[index] = ask(server, name, {"x": requests[index]})[output]

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_requests_of_many_clients_share_runs_and_keep_their_own_answers(tmp_path):
    path = model_file(tmp_path, classifier())
    files, _ = lay_out(
        "triton", served("small", path), wishes({"max": 16, "preferred": [16], "queue_delay": "200ms"}, warmup="none")
    )
    requests = [rows() for _ in range(32)]
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        answers = many_at_once(server, "small", requests)
        counters = server.counters({label("nv_inference_request_success", "small"): len(requests)})
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer, in_process(path, {"x": request})["scores"], rtol=1e-5, atol=1e-6)
    assert counters[label("nv_inference_request_success", "small")] == len(requests)
    assert counters[label("nv_inference_exec_count", "small")] <= len(requests) / 4


def test_one_request_at_a_time_without_a_batch_axis(tmp_path):
    path = model_file(tmp_path, classifier(batch=1))
    files, _ = lay_out("triton", served("small", path), wishes(warmup="none"))
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        many_at_once(server, "small", [rows() for _ in range(6)])
        counters = server.counters({label("nv_inference_exec_count", "small"): 6})
    assert counters[label("nv_inference_exec_count", "small")] == 6


@pytest.mark.parametrize(
    ("kind", "batch", "requests"),
    [("zeros", "batch", 1 + 8), ("samples", "batch", 1 + 8 + 1), ("zeros", 1, 1), ("samples", 1, 2), ("none", "batch", 0)],
)
def test_warm_up_runs_before_the_server_is_ready(tmp_path, kind, batch, requests):
    path = model_file(tmp_path, classifier(batch=batch))
    asked = Wishes(options=LayoutSpec.parse({"warmup": kind}), samples=[{"x": rows()}, {"x": rows()}])
    files, _ = lay_out("triton", served("small", path), asked)
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        counted = label("nv_inference_request_success", "small")
        assert server.counters({counted: requests})[counted] == requests


def test_a_model_that_fails_its_warm_up_is_not_ready(tmp_path):
    path = model_file(tmp_path, classifier())
    asked = Wishes(options=LayoutSpec.parse({"warmup": "samples"}), samples=[{"x": rows()}])
    files, _ = lay_out("triton", served("small", path), asked)
    files["/models/small/warmup/0-0.raw"] = b"too short"
    with pytest.raises(AssertionError, match="not ready"), TritonServer(unpack(files, tmp_path / "image"), tmp_path):
        pass


def test_a_repeated_request_is_answered_from_the_cache(tmp_path):
    path = model_file(tmp_path, classifier())
    files, _ = lay_out("triton", served("small", path), wishes(response_cache=True, warmup="none"))
    request = {"x": rows()}
    # The second is what a server of engines that carry their code gets besides.
    options = ("--cache-config=local,size=1048576", "--backend-config=tensorrt,version-compatible=true")
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path, *options) as server:
        first, again = ask(server, "small", request), ask(server, "small", request)
        ask(server, "small", {"x": rows()})
        wanted = {"nv_cache_num_hits_per_model": 1, "nv_cache_num_misses_per_model": 2, "nv_inference_exec_count": 2}
        counters = server.counters({label(name, "small"): value for name, value in wanted.items()})
    np.testing.assert_array_equal(first["scores"], again["scores"])
    assert {name: counters[label(name, "small")] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("policy", "offered"), [("latest", {3}), ({"latest": 2}, {2, 3}), ("all", {1, 2, 3}), ({"only": [1, 3]}, {1, 3})]
)
def test_the_server_offers_the_versions_that_the_policy_says(tmp_path, policy, offered):
    paths = {version: model_file(tmp_path, classifier(seed=version), str(version)) for version in (1, 2, 3)}
    versions = {version: ModelFiles.of(path) for version, path in paths.items()}
    model = ServedModel("small", "onnx", versions, read_signature(paths[1]))
    files, _ = lay_out("triton", model, wishes(versions=policy))
    request = {"x": rows(2)}
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
            ready = {version for version in paths if client.is_model_ready("small", str(version))}
        assert ready == offered
        for version in offered:
            expected = in_process(paths[version], request)["scores"]
            np.testing.assert_allclose(ask(server, "small", request, str(version))["scores"], expected, rtol=1e-5, atol=1e-6)


def test_instances_run_side_by_side(tmp_path):
    path = model_file(tmp_path, classifier())
    files, _ = lay_out("triton", served("small", path), wishes(instances=3, threads={"intra_op": 2}))
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        log = server.log.read_text(errors="replace")
    assert all(f"small_0_{instance}" in log for instance in range(3))
    assert "small_0_3" not in log


def scaled(factor, batch="batch"):
    """Return a model with y = x * factor and, beside it, the sum of each row."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["factor"], value_float=factor),
            helper.make_node("Mul", ["x", "factor"], ["y"]),
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1, noop_with_empty_axes=1),
        ],
        "scaled",
        [value("x", TensorProto.FLOAT, [batch, FEATURES])],
        [value("y", TensorProto.FLOAT, [batch, FEATURES]), value("total", TensorProto.FLOAT, [batch, FEATURES])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def flat(shape=("batch",)):
    """Return a model with label = x * 10 + 1, of one axis as a classifier's label is, and beside it x itself as a table."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Constant", [], ["ten"], value_float=10.0),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Constant", [], ["last"], value_ints=[len(shape)]),
        helper.make_node("Mul", ["x", "ten"], ["tens"]),
        helper.make_node("Add", ["tens", "one"], ["label"]),
        helper.make_node("Unsqueeze", ["x", "last"], ["table"]),
    ]
    outputs = [value("label", TensorProto.FLOAT, shape), value("table", TensorProto.FLOAT, [*shape, 1])]
    graph = helper.make_graph(nodes, "flat", [value("x", TensorProto.FLOAT, shape)], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("warmup", ["zeros", "samples"])
def test_a_batched_model_of_one_axis_gets_and_gives_its_own_rank(tmp_path, warmup):
    path = model_file(tmp_path, flat())
    batch = BatchSpec.parse({"max": 16, "preferred": [16], "queue_delay": "200ms"})
    sample = {"x": np.array([4], np.float32)}
    files, _ = lay_out("triton", served("flat", path), Wishes(batch, LayoutSpec.parse({"warmup": warmup}), samples=[sample]))
    requests = [RANDOM.normal(size=(1 + index % 3, 1)).astype(np.float32) for index in range(8)]
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        answers = many_at_once(server, "flat", requests, "label")
        alone = ask(server, "flat", {"x": requests[2]})
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
            metadata = client.get_model_metadata("flat")
    assert {tensor.name: list(tensor.shape) for tensor in (*metadata.inputs, *metadata.outputs)} == {
        "x": [-1, 1],
        "label": [-1, 1],
        "table": [-1, 1],
    }
    for request, answer in zip(requests, answers, strict=True):
        assert answer.shape == request.shape
        np.testing.assert_allclose(answer, request * 10 + 1, rtol=1e-5)
    np.testing.assert_array_equal(alone["table"], requests[2])


def test_a_scalar_without_a_batch_is_asked_and_answered_with_one_axis(tmp_path):
    path = model_file(tmp_path, flat(shape=()))
    files, _ = lay_out("triton", served("flat", path), wishes(warmup="zeros"))
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        answer = ask(server, "flat", {"x": np.array([3], np.float32)})
    assert {name: array.tolist() for name, array in answer.items()} == {"label": [31.0], "table": [3.0]}


def test_an_ensemble_joins_models_of_one_axis(tmp_path):
    paths = {name: model_file(tmp_path, flat(), name) for name in ("first", "second")}
    spec = EnsembleSpec.parse(
        {
            "name": "chain",
            "inputs": ["raw"],
            "outputs": ["between", "answer"],
            "steps": [
                {"model": "first", "inputs": {"x": "raw"}, "outputs": {"label": "between"}},
                {"model": "second", "inputs": {"x": "between"}, "outputs": {"label": "answer"}},
            ],
        }
    )
    files, _ = ensemble(spec, {name: (served(name, path), wishes({"max": 8})) for name, path in paths.items()})
    request = np.array([[1], [2], [3]], np.float32)
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        answer = ask(server, "chain", {"raw": request})
    assert {name: array.tolist() for name, array in answer.items()} == {
        "between": [[11.0], [21.0], [31.0]],
        "answer": [[111.0], [211.0], [311.0]],
    }


@pytest.mark.parametrize("batch", ["batch", 1])
def test_an_ensemble_answers_as_its_models_one_after_the_other(tmp_path, batch):
    paths = {
        "prepare": model_file(tmp_path, scaled(0.5, batch), "prepare"),
        "classify": model_file(tmp_path, classifier(batch=batch), "classify"),
    }
    spec = EnsembleSpec.parse(
        {
            "name": "chain",
            "inputs": ["raw"],
            "outputs": ["answer", "prepared"],
            # Written against the order of the data: Triton goes by the tensors.
            "steps": [
                {"model": "classify", "inputs": {"x": "prepared"}, "outputs": {"scores": "answer"}},
                {"model": "prepare", "inputs": {"x": "raw"}, "outputs": {"y": "prepared"}},
            ],
        }
    )
    models = {name: (served(name, path), wishes({"max": 8}, warmup="none")) for name, path in paths.items()}
    files, _ = ensemble(spec, models)
    request = rows(3 if batch == "batch" else 1)
    with TritonServer(unpack(files, tmp_path / "image"), tmp_path) as server:
        answer = ask(server, "chain", {"raw": request})
        counters = server.counters({label("nv_inference_request_success", model): 1 for model in (*paths, "chain")})
    prepared = in_process(paths["prepare"], {"x": request})["y"]
    np.testing.assert_array_equal(answer["prepared"], prepared)
    np.testing.assert_allclose(answer["answer"], in_process(paths["classify"], {"x": prepared})["scores"], rtol=1e-5, atol=1e-6)
    assert answer["answer"].shape == (len(request), CLASSES)
    for model in ("prepare", "classify", "chain"):
        assert counters[label("nv_inference_request_success", model)] == 1


def test_a_build_brings_its_versions_and_its_ensemble(tmp_path):
    """From YAML to answers: two builds as versions of one model, and a second model before it."""
    folder = write_model_folder(tmp_path / "model", layout={
        "numbers": {1: "fp32", 2: "int8"}, "versions": "all", "warmup": "samples",
        "ensemble": {
            "name": "whole", "inputs": ["raw"], "outputs": ["answer"],
            "steps": [
                {"model": "prepare", "build": "fp32", "inputs": {"x": "raw"}, "outputs": {"y": "ready"}},
                {"model": "small", "inputs": {"x": "ready"}, "outputs": {"scores": "answer"}},
            ],
        },
    }).parent  # fmt: skip
    onnx.save(scaled(0.5), folder / "prepare.onnx")
    prepare = {"name": "prepare", "source": {"file": "prepare.onnx"}, "builds": {"fp32": {"engine": "onnxruntime"}}}
    (folder / "prepare.yaml").write_text(yaml.safe_dump(prepare))
    chain = plan(Job(load_model(folder / "small.yaml"), "int8", folder, Target()), "registry/base:1")
    with Runner(tmp_path / "cache") as runner:
        repository = unpack(make(chain, runner).files(runner), tmp_path / "image")
    request = rows(2)
    with TritonServer(repository, tmp_path) as server:
        exact, rough = (ask(server, "small", {"x": request * 0.5}, version)["scores"] for version in ("1", "2"))
        answer = ask(server, "whole", {"raw": request})["answer"]
    np.testing.assert_allclose(exact, in_process(folder / "small.onnx", {"x": request * 0.5})["scores"], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(exact, rough)
    # The newest version answers where none is named.
    np.testing.assert_allclose(answer, rough, rtol=1e-5, atol=1e-6)
