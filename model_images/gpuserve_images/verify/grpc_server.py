"""A model behind a server that speaks the open inference protocol v2 over gRPC, as load sees it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.load import Call
from gpuserve_images.verify.remote import SEE_MODEL, Remote, datatype, raw_bytes
from gpuserve_images.verify.server import Server


class GrpcServer(Server[Any]):
    """A model over gRPC."""

    def __init__(self, remote: Remote) -> None:
        """Ask for the model's metadata.

        Raises:
            LoadError: When the server cannot be reached, or does not serve that model.
        """
        if remote.parts.scheme != "grpc":
            raise remote.error("is no address for gRPC", "Write grpc://HOST:PORT (Triton's gRPC port is 8001), without TLS.")
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        super().__init__(remote)
        # The messages are generated at run time, so type checkers see nothing of them.
        self._grpc: Any = grpc
        self._types: Any = service_pb2
        self._services: Any = service_pb2_grpc
        with self._stub() as stub:
            answer = self._ask(stub.ModelMetadata, self._types.ModelMetadataRequest(name=remote.model))
        self._metadata = {
            role: [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(answer, role)]
            for role in ("inputs", "outputs")
        }

    @property
    def where(self) -> str:
        """Model, address and protocol."""
        return f"{self._remote.named}, gRPC"

    @contextmanager
    def connect(self, batch: int) -> Generator[Call]:
        """Return a caller with a connection of its own."""
        messages = self._messages(batch)
        with self._stub() as stub:

            def call() -> None:
                self._ask(stub.ModelInfer, next(messages))

            yield call

    @contextmanager
    def _stub(self) -> Generator[Any]:
        parts = self._remote.parts
        # Channels of one address share a connection unless told otherwise; callers are to be independent.
        options: list[tuple[str, Any]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if self._remote.host:
            options.append(("grpc.default_authority", self._remote.host))
        with self._grpc.insecure_channel(parts.netloc, options=options) as channel:
            yield self._services.GRPCInferenceServiceStub(channel)

    def _ask(self, method: Any, message: Any) -> Any:
        try:
            return method(message, timeout=self._remote.timeout)
        except self._grpc.RpcError as error:
            code, said = error.code(), error.details()
            if code in {self._grpc.StatusCode.UNAVAILABLE, self._grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise self._remote.unreachable(RuntimeError(said)) from error
            raise self._remote.error(f"answered {code.name} ({said})", SEE_MODEL) from error

    def _encode(self, tensors: Tensors) -> Any:
        message = self._types.ModelInferRequest(model_name=self._remote.model)
        for name, array in tensors.items():
            message.inputs.add(name=name, datatype=datatype(array), shape=list(array.shape))
            message.raw_input_contents.append(raw_bytes(array))
        return message
