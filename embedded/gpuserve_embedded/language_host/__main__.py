"""Start the language host: prints its port and serves until the engine is done with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from gpuserve_embedded.language_host.processes import Processes
from gpuserve_embedded.language_host.protocol import language_pb2_grpc
from gpuserve_embedded.language_host.server import LanguageHost

# Every policy pack and plugin that the host runs holds a thread for its output.
_THREADS = 32
# Pulumi's own limit: a program's configuration or a plugin's output can be large.
_MESSAGE_BYTES = 400 << 20
_LOOK_SECONDS = 1.0


def main() -> None:
    """Serve the engine whose address is the last argument."""
    addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    stopped = threading.Event()
    processes = Processes()
    server = grpc.server(
        ThreadPoolExecutor(_THREADS),
        options=[("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(addresses[-1] if addresses else "", processes), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    for number in (signal.SIGINT, signal.SIGTERM):  # how the engine says that it is done
        signal.signal(number, lambda _number, _frame: stopped.set())
    print(port, flush=True)  # noqa: T201 - the engine reads the port from the first line
    _wait_for_the_end(stopped)
    processes.end_all()
    server.stop(grace=None)


def _wait_for_the_end(stopped: threading.Event) -> None:
    """Return when told to stop, or when the engine died without saying so."""
    engine = os.getppid()
    while not stopped.wait(_LOOK_SECONDS):
        if os.getppid() != engine:
            return


if __name__ == "__main__":
    main()
