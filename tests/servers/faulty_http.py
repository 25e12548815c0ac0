"""A real HTTP(S) server on a free port of this machine that serves bytes by path, with ranges, and fails where a test wants it to."""

import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from typing import Self
from urllib.parse import unquote


@dataclass
class Fault:
    """What goes wrong with the next request for a path.

    Attributes:
        status: Answer this status in place of the file.
        headers: Further headers of the answer.
        cut_after: Close the connection after so many bytes of the body.
        length: Claim this Content-Length.
        body: Answer this in place of the file.
        delay: Seconds to wait between chunks, for a test that looks while a download runs.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    length: int | None = None
    body: bytes | None = None
    delay: float = 0.0


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class FaultyServer:
    """Runs while it is entered."""

    def __init__(self, *, certificate: Path | None = None, ranges: bool = True) -> None:
        """Speak HTTPS with a certificate file that holds the key, too; with `ranges` off, send whole files always."""
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[Asked] = []
        self.kinds: dict[str, str] = {}
        self.ranges = ranges
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def do_HEAD(self) -> None:
                server.answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.answer(self)

            do_PUT = do_POST  # noqa: N815 - a name that http.server prescribes

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                """Say nothing of clients that went away: the tests see to that."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.url = f"https://localhost:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def put(self, path: str, content: bytes, *faults: Fault) -> str:
        """Serve a file, with faults for its first requests, and return its URL."""
        self.files[path] = content
        self.faults[path] = list(faults)
        return f"{self.url}/{path}"

    def sent_ranges(self, path: str) -> list[str | None]:
        """Return what parts of a file were asked for, in order."""
        return [request.range for request in self.asked if request.path == f"/{path}" and request.method == "GET"]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = handler.headers
        path = unquote(handler.path.split("?")[0])
        with self._lock:
            self.asked.append(Asked(handler.command, path, headers.get("Range"), headers.get("Authorization")))
            waiting = self.faults.get(path[1:]) or []
            fault = waiting.pop(0) if waiting else Fault()
        content = self.files.get(path[1:])
        if fault.status is None and content is None and fault.body is None:
            fault = Fault(status=404)
        self._send(handler, fault, content or b"")

    def _send(self, handler: BaseHTTPRequestHandler, fault: Fault, content: bytes) -> None:
        status, body, extra = 200, content if fault.body is None else fault.body, dict(fault.headers)
        extra.setdefault("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
        extra.setdefault("ETag", '"mark"')
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "")
        if fault.status is not None:
            status, body = fault.status, fault.body or b"refused"
        elif asked and self.ranges:
            start, end = int(asked[1]), min(int(asked[2] or len(body)) + bool(asked[2]), len(body))
            if start >= len(body):
                status, extra["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                status, extra["Content-Range"] = 206, f"bytes {start}-{end - 1}/{len(body)}"
                body = body[start:end]
        handler.send_response(status)
        for name, value in extra.items():
            handler.send_header(name, value)
        if kind := self.kinds.get(unquote(handler.path.split("?")[0])[1:]):
            handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) if fault.length is None else fault.length))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        sent = body if fault.cut_after is None else body[: fault.cut_after]
        for begin in range(0, len(sent), 65536):
            handler.wfile.write(sent[begin : begin + 65536])
            if fault.delay:
                sleep(fault.delay)
        if fault.cut_after is not None or (fault.length is not None and fault.length > len(body)):
            handler.close_connection = True
