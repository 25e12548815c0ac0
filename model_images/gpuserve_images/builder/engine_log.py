"""Lines in the output of `pulumi up`, below the resource that they are about."""

import re
import sys
from collections.abc import Sequence

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

_ADDRESS = re.compile(r"[\w.\-\[\]:]+:\d+")
_SECONDS = 5.0


class EngineLog:
    """Sends lines to the engine that runs this program as a plugin; without one, prints them."""

    def __init__(self, urn: str, arguments: Sequence[str] = tuple(sys.argv)) -> None:
        """Connect to nothing yet.

        Args:
            urn: The resource that the lines belong to.
            arguments: How this program was started: the engine gives a plugin its address as the last argument.
        """
        self._urn = urn
        address = arguments[-1] if len(arguments) > 1 and _ADDRESS.fullmatch(arguments[-1]) else None
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address)) if address else None

    def line(self, text: str) -> None:
        """Show a line."""
        if self._engine is None:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - nobody else is there to show it
            return
        request = engine_pb2.LogRequest(severity=engine_pb2.LogSeverity.Value("INFO"), message=text, urn=self._urn)
        try:
            self._engine.Log(request, timeout=_SECONDS)
        except grpc.RpcError:
            return  # whether the engine is gone is asked for below, and a lost line ends no build

    def listens(self) -> bool:
        """Tell whether the engine is still there: one that was killed tells its plugins nothing."""
        if self._engine is None:
            return True
        try:
            self._engine.GetRootResource(engine_pb2.GetRootResourceRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            return error.code() is not grpc.StatusCode.UNAVAILABLE
        return True
