"""Load over the real tritonserver: HTTP with binary tensors, and gRPC."""

import onnx
import pytest
from e2e_small_model import classifier
from environments import unpacked
from onnx import TensorProto, helper
from triton_server import TritonServer, missing

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.grpc_server import GrpcServer
from gpuserve_images.verify.http_server import HttpServer
from gpuserve_images.verify.load import LoadError, Pace, measure_point
from gpuserve_images.verify.remote import Remote
from gpuserve_images.verify.spec import GenerateSpec

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
NAME = "small"
FLAT = "flat"
PACE = Pace(warm_up=0.2, seconds=1.0, at_least=5)


def flat():
    """Return a model whose only axis is the batch: one number in, one number out."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], FLAT, [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def repository(folder, name, model):
    onnx.save(model, folder / f"{name}.onnx")
    served = ServedModel.of(name, "onnx", folder / f"{name}.onnx", read_signature(folder / f"{name}.onnx"))
    files, _ = lay_out("triton", served, Wishes(batch=BatchSpec(max=8)))
    return files


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    files = repository(folder, NAME, classifier()) | repository(folder, FLAT, flat())
    scratch = folder / "scratch"
    scratch.mkdir()
    with TritonServer(unpacked(files, folder / "root") / "models", scratch) as running:
        yield running


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_every_request_is_counted_by_triton_too(server, protocol):
    address = f"127.0.0.1:{server.http if protocol == 'http' else server.grpc}"
    remote = Remote(address, NAME, protocol=protocol)
    callee = HttpServer(remote) if protocol == "http" else GrpcServer(remote)
    signature = callee.signature()
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in signature.inputs] == [("x", "FP32", (-1, 8))]
    counted = 'nv_inference_count{model="small",version="1"}'
    before = server.counters()[counted]
    point = measure_point(callee.sending(generate(signature, GenerateSpec())), 4, 2, PACE)
    assert point.errors == 0
    assert point.requests > 20
    # What came before the clock ran is counted by Triton alone.
    wanted = 4 * point.requests
    assert server.counters({counted: before + wanted})[counted] - before >= wanted
    assert ("binary" in callee.where) == (protocol == "http")


def test_more_samples_than_a_batch_holds_is_tritons_own_sentence(server):
    callee = HttpServer(Remote(f"http://127.0.0.1:{server.http}", NAME))
    requests = generate(callee.signature(), GenerateSpec())
    with pytest.raises(LoadError, match=r"answered HTTP 400 .*batch-size"):
        measure_point(callee.sending(requests), 9, 1, PACE)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_model_of_one_axis_is_sent_what_triton_declares_of_it(server, tmp_path, protocol):
    onnx.save(flat(), tmp_path / "flat.onnx")
    remote = Remote(f"127.0.0.1:{server.http if protocol == 'http' else server.grpc}", FLAT, protocol=protocol)
    callee = HttpServer(remote) if protocol == "http" else GrpcServer(remote)
    requests = generate(read_signature(tmp_path / "flat.onnx"), GenerateSpec())
    assert requests[0]["x"].shape == (1,)
    assert callee.signature().inputs[0].shape == (-1, 1)
    point = measure_point(callee.sending(requests), 4, 1, PACE)
    assert point.errors == 0
    assert point.requests > 20
