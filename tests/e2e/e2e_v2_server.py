"""Small servers of the open inference protocol v2 over HTTP and gRPC on free ports of this machine, with a real model behind them."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gpuserve_images.onnx_model.session import Runner, Session
from gpuserve_images.onnx_model.signature import DATA_TYPES

NAME = "small"
_NUMPY = dict(DATA_TYPES.values())
_V2 = {numpy: v2 for v2, numpy in DATA_TYPES.values()}


def _metadata(session: Runner, name: str) -> dict[str, Any]:
    sides = {"inputs": session.signature.inputs, "outputs": session.signature.outputs}
    described = {
        side: [{"name": t.name, "datatype": t.dtype, "shape": list(t.shape)} for t in tensors]
        for side, tensors in sides.items()
    }
    return {"name": name, "versions": ["1"], "platform": "onnxruntime_onnx", **described}


@contextmanager
def http_server(
    session: Runner,
    *,
    name: str = NAME,
    binary: bool = True,
    fail: Callable[[int], bool] = lambda _: False,
    metadata: dict[str, Any] | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the server's address, and the requests it got; `fail` says which infer requests, by number, are answered with 503."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if self.path == "/v2":
                self.answer(200, {"name": "test", "extensions": ["binary_tensor_data"] if binary else []})
            elif self.path == f"/v2/models/{name}":
                self.answer(200, metadata if metadata is not None else _metadata(session, name))
            else:
                self.answer(404, {"error": "no such model"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
            head, raw = json.loads(body[:length]), body[length:]
            got.append({"path": self.path, "host": self.headers["Host"], "head": head, "client": self.client_address})
            if fail(len(got)):
                self.answer(503, {"error": "too busy"})
                return
            tensors = {}
            for item in head["inputs"]:
                dtype = np.dtype(_NUMPY[item["datatype"]])
                if "data" in item:
                    tensors[item["name"]] = np.array(item["data"], dtype).reshape(item["shape"])
                else:
                    size = item["parameters"]["binary_data_size"]
                    tensors[item["name"]] = np.frombuffer(raw[:size], dtype).reshape(item["shape"])
                    raw = raw[size:]
            outputs = session.run(tensors)
            self.answer(
                200, {"outputs": [{"name": n, "shape": list(a.shape), "data": a.ravel().tolist()} for n, a in outputs.items()]}
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def grpc_server(session: Session) -> Iterator[tuple[str, list[int]]]:
    """Yield the server's address, and the batch sizes it was asked with."""
    got: list[int] = []

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelMetadata(self, request, context):  # noqa: N802 - the service's own name
            if request.name != NAME:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
            answer = service_pb2.ModelMetadataResponse(name=NAME, versions=["1"])
            for side in ("inputs", "outputs"):
                for tensor in getattr(session.signature, side):
                    getattr(answer, side).add(name=tensor.name, datatype=tensor.dtype, shape=list(tensor.shape))
            return answer

        def ModelInfer(self, request, context):  # noqa: N802 - the service's own name
            tensors = {
                tensor.name: np.frombuffer(raw, _NUMPY[tensor.datatype]).reshape(list(tensor.shape))
                for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            }
            got.append(next(iter(tensors.values())).shape[0])
            answer = service_pb2.ModelInferResponse(model_name=NAME)
            for name, array in session.run(tensors).items():
                answer.outputs.add(name=name, datatype=_V2[array.dtype.name], shape=list(array.shape))
                answer.raw_output_contents.append(array.tobytes())
            return answer

    server = grpc.server(ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", got
    finally:
        server.stop(0).wait(5)
