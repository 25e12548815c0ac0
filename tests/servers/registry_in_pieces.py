"""A registry of blobs that takes them in pieces, keeps what came of a broken-off one, and fails where a test wants it to."""

import hashlib
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry(ThreadingHTTPServer):
    """Takes blobs in pieces as the specification says; `faults` are used up one per piece."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.uploads, self.blobs, self.requests, self.faults = {}, {}, [], []
        self.forgets = False
        self.takes_pieces = True
        self.least = None
        self.body_bytes = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_):
        """A client that hangs up is part of the play."""

    def methods(self):
        return [method for method, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        server = self.server
        server.requests.append((self.command, self.path))
        length = int(self.headers.get("Content-Length", 0))
        name = re.sub(r"\?.*", "", self.path).rsplit("/", 1)[-1]
        if self.command == "POST":
            name = f"u{len(server.uploads)}"
            server.uploads[name] = b""
            self._answer(202, name, {"OCI-Chunk-Min-Length": server.least} if server.least else {})
        elif self.command == "HEAD":
            self._answer(200 if name in server.blobs else 404)
        elif name not in server.uploads:
            self.rfile.read(length)
            self._answer(404)
        elif self.command == "GET":
            if server.forgets:
                del server.uploads[name]
                self._answer(404)
            else:
                self._answer(204, name)
        elif self.command == "PATCH":
            self._patch(name, length)
        else:
            self._put(name, length)

    def _patch(self, name, length):
        server = self.server
        if not server.takes_pieces:
            self.rfile.read(length)
            self._answer(405)
            return
        first, last = map(int, self.headers["Content-Range"].split("-"))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int) and fault > 0:  # it breaks off after so many bytes, and keeps them
            server.uploads[name] += self.rfile.read(fault)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        server.body_bytes += len(body)
        if len(body) < length:  # the client is no more; what came is kept
            server.uploads[name] += body
            self.close_connection = True
        elif fault == "500":
            self._answer(500)
        elif first != len(server.uploads[name]) or last - first + 1 != length:
            self._answer(416, name)
        elif fault == "lost answer":
            server.uploads[name] += body
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == "wrong bytes":
            server.uploads[name] += bytes(length)
            self._answer(500)
        else:
            server.uploads[name] += body
            self._answer(202, name)

    def _put(self, name, length):
        whole = self.server.uploads[name] + self.rfile.read(length)
        digest = f"sha256:{hashlib.sha256(whole).hexdigest()}"
        if digest[7:] not in self.path:
            self._answer(400)
            return
        self.server.blobs[digest] = whole
        if self.server.faults and self.server.faults[0] == "lost at the end":
            self.server.faults.pop()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(201)

    def _answer(self, status, upload=None, headers=None):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if upload:
            size = len(self.server.uploads[upload])
            self.send_header("Location", f"/v2/m/blobs/uploads/{upload}?state={size}")
            self.send_header("Range", f"0-{max(0, size - 1)}")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815 - names that http.server prescribes

    def log_message(self, *_):
        pass
