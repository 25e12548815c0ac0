"""What the real tritonserver counts for an ensemble and its models: the recorded series rest on it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from environments import unpacked
from onnx import TensorProto, helper, numpy_helper
from triton_server import TritonServer, missing
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, EnsembleSpec, LayoutSpec
from gpuserve_images.layouts.triton_ensemble import ensemble
from gpuserve_images.onnx_model.signature import read_signature

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

TABLE = np.array([1, 2, 3, 0], np.float32)
OUTSIDE = 99


def lookup(path: Path) -> ServedModel:
    """Write a model that looks numbers up in `TABLE`, and fails at those that it does not have."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["y"]),
        ],
        "lookup",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return ServedModel.of(path.stem, "onnx", path, read_signature(path))


def ask(client: triton.InferenceServerClient, number: float) -> np.ndarray:
    wire = triton.InferInput("raw", [1, 2], "FP32")
    wire.set_data_from_numpy(np.full((1, 2), number, np.float32))
    return client.infer("chain", [wire]).as_numpy("answer")


def test_an_ensemble_counts_its_requests_apart_from_its_models_and_its_failures_twice(tmp_path: Path) -> None:
    steps = [
        {"model": "first", "inputs": {"x": "raw"}, "outputs": {"y": "between"}},
        {"model": "second", "inputs": {"x": "between"}, "outputs": {"y": "answer"}},
    ]
    spec = EnsembleSpec.parse({"name": "chain", "inputs": ["raw"], "outputs": ["answer"], "steps": steps})
    wishes = Wishes(batch=BatchSpec(), options=LayoutSpec(warmup="none"))
    files, _ = ensemble(spec, {name: (lookup(tmp_path / f"{name}.onnx"), wishes) for name in ("first", "second")})

    def success(model: str) -> str:
        return f'nv_inference_request_success{{model="{model}",version="1"}}'

    failures = 'nv_inference_request_failure{model="chain",reason="OTHER",version="1"}'
    with TritonServer(unpacked(files, tmp_path / "image") / "models", tmp_path) as server:
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
            assert client.is_model_ready("chain")
            for number in (0, 1, 2):
                np.testing.assert_array_equal(ask(client, number), np.full((1, 2), TABLE[int(TABLE[number])]))
            for _ in range(2):
                with pytest.raises(InferenceServerException, match="in ensemble 'chain'"):
                    ask(client, OUTSIDE)
        counted = server.counters({success("chain"): 3, success("second"): 3, failures: 4})

    assert [counted[success(model)] for model in ("chain", "second")] == [3, 3]
    assert counted[failures] == 2 * 2
    own, *others = (
        counted[f'nv_inference_queue_duration_us{{model="{model}",version="1"}}'] for model in ("chain", "first", "second")
    )
    assert own < sum(others) / 10
    assert counted['nv_inference_exec_count{model="chain",version="1"}'] == 3
