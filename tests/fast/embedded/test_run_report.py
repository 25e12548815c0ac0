"""What a run shows; its Python example is pasted into a shell and answered, here by a server that speaks just enough of the protocol."""

import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from gpuserve_embedded.run.report import python_example, show
from gpuserve_embedded.run.up import Answer

PATH = "/models/one"


class Model(BaseHTTPRequestHandler):
    asked: ClassVar[list[dict]] = []

    def do_GET(self):
        self._answer({"inputs": [{"name": "bytes", "datatype": "INT32", "shape": [-1, 16]}]})

    def do_POST(self):
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"host": self.headers["Host"]})
        self._answer({"model_version": "1", "outputs": [{"shape": [1, 214]}]})

    def _answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200 if self.path.startswith(f"{PATH}/v2/models/filetype") else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Model) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_the_example_works_when_pasted(server):
    service = {"url": f"{server}{PATH}", "host": "filetype.example.com", "model": "filetype"}
    pasted = python_example("filetype", service, sys.executable)
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["filetype", "version", "1", "[[1,", "214]]"]
    (asked,) = Model.asked
    assert asked["host"] == "filetype.example.com"
    (tensor,) = asked["inputs"]
    assert tensor == {"name": "bytes", "datatype": "INT32", "shape": [1, 16], "data": [0] * 16}


@pytest.mark.parametrize("example", [None, "curl -sS http://127.0.0.1:8080"])
def test_an_example_that_cannot_be_made_is_not_shown(example):
    service = {"url": "http://127.0.0.1:8080", "host": "h.example.com", "model": "m", "protocol": "v2", "example": example}
    answer = Answer("local", {"m": service}, "1 created", Path("README.md"), "markdown", None, "/dashboard.json", {}, {})
    console = Console(file=io.StringIO(), width=200)
    show(console, answer, "python")
    shown = console.file.getvalue()
    assert ("With curl" in shown) == (example is not None)
    assert "None" not in shown
    assert "With Python" in shown


def test_names_are_shown_as_they_are_and_the_stack_is_the_runs():
    service = {"url": "http://127.0.0.1:8080", "host": "h.example.com", "model": "m", "protocol": "v2", "example": None}
    for file in ("app/[id].tsx", "x[/b].txt"):
        answer = Answer("staging", {"m": service}, "1 created", Path(file), "[red]", None, "/dashboard.json", {}, {})
        console = Console(file=io.StringIO(), width=200)
        show(console, answer, "python")
        shown = console.file.getvalue()
        assert f"{file} -> [red]" in shown
        assert "pulumi preview -s staging" in shown
