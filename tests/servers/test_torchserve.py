"""Layouts in the real TorchServe: archives of the real archiver, its configuration, and the answers of ONNX and PyTorch models."""

import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import requests
from e2e_small_model import FEATURES, classifier
from environments import HERE, environment, packages, run, unpacked
from server_process import server_process
from v2_client import free_port, post, wait_until_ready

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("java") is None, reason="TorchServe needs Java 17: apt-get install openjdk-17-jre-headless"
    ),
]
RANDOM = np.random.default_rng(5)
SCRIPTED = """
import sys
import torch

class Two(torch.nn.Module):
    def forward(self, a, b):
        return a + 2 * b, a.sum(dim=1)

model = Two().eval()
example = (torch.zeros(2, 3), torch.zeros(2, 3))
torch.jit.trace(model, example).save(sys.argv[1] + "/two.pt")
rows = torch.export.Dim("rows", min=1, max=64)
torch.export.save(torch.export.export(model, example, dynamic_shapes=({0: rows}, {0: rows})), sys.argv[1] + "/two.pt2")
"""
NAMED = """
import sys
import torch

class Named(torch.nn.Module):
    def forward(self, a):
        return {"out": a * 2, "rough": a.to(torch.bfloat16)}

torch.jit.trace(Named().eval(), (torch.zeros(2, 3),), strict=False).save(sys.argv[1] + "/named.pt")
"""
TWO = Signature(
    inputs=(TensorSpec(name="a", dtype="FP32", shape=(-1, 3)), TensorSpec(name="b", dtype="FP32", shape=(-1, 3))),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 3)), TensorSpec(name="total", dtype="FP32", shape=(-1,))),
    opset=17,
)


@pytest.fixture(scope="module")
def python():
    return environment("torch")


@contextmanager
def server(python: Path, image: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Yield the address and the log of a TorchServe over the configuration in an unpacked image."""
    ports = {name: free_port() for name in ("INFERENCE", "MANAGEMENT", "METRICS")}
    addresses = {f"TS_{name}_ADDRESS": f"http://127.0.0.1:{port}" for name, port in ports.items()}
    grpc = {f"TS_GRPC_{name}_PORT": str(free_port()) for name in ("INFERENCE", "MANAGEMENT")}
    brought = packages(HERE / "requirements-torchserve.lock")
    environ = {
        **os.environ, **addresses, **grpc, "PYTHONPATH": str(brought),
        "PATH": f"{python.parent}:{os.environ['PATH']}", "TEMP": str(scratch),
    }  # fmt: skip
    config = image / "models/config"
    command = [str(python), "-c", "from ts.model_server import start; start()", "--start", "--foreground", "--ncs"]
    command += ["--model-store", str(image / "models/model-store")]
    command += ["--ts-config", str(config / "config.properties"), "--log-config", str(config / "log4j2.xml")]
    log = scratch / "torchserve.log"
    with server_process(command, log, env=environ, cwd=scratch) as process:
        wait_until_ready(f"http://127.0.0.1:{ports['INFERENCE']}/ping", process, log, 180)
        yield f"127.0.0.1:{ports['INFERENCE']}", log


def laid(tmp_path, form, path, signature, batch=None, **options):
    wishes = Wishes(batch=BatchSpec.parse(batch or {}), options=LayoutSpec.parse(options), scratch=tmp_path)
    files, record = lay_out("torchserve", ServedModel.of("small", form, path, signature), wishes)
    return unpacked(files, tmp_path / "image"), record


def body(**tensors):
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}
        for name, array in tensors.items()
    ]
    return {"inputs": inputs}


def outputs(answer):
    return {item["name"]: np.array(item["data"], np.float32).reshape(item["shape"]) for item in answer["outputs"]}


def rows(count):
    return RANDOM.normal(size=(count, FEATURES)).astype(np.float32)


def test_an_onnx_model_answers_as_in_process_in_shared_runs(python, tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(classifier(), path)
    image, _ = laid(tmp_path, "onnx", path, read_signature(path), {"max": 8, "queue_delay": "200ms"}, threads={"intra_op": 1})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    asked = [rows(1 + index % 3) for index in range(8)]
    answers = [None] * len(asked)

    def ask(index):
        answers[index] = outputs(post(f"http://{address}/predictions/small", body(x=asked[index])))["scores"]

    with server(python, image, tmp_path) as (address, log):
        threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bad = requests.post(f"http://{address}/predictions/small", json=body(z=rows(1)), timeout=30)
        runs = log.read_text(errors="replace").count("Backend received inference at") - 1
    for tensor, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, session.run(["scores"], {"x": tensor})[0], rtol=1e-5, atol=1e-6)
    assert bad.status_code == 400
    assert "inputs are ['z'], the model takes ['x']" in bad.json()["error"]
    assert 1 <= runs <= len(asked) / 2
    assert not (tmp_path / "logs").exists(), "the log configuration writes files"


@pytest.mark.parametrize("file", ["two.pt", "two.pt2"])
def test_a_pytorch_model_answers(python, tmp_path, file):
    run(str(python), "-c", SCRIPTED, str(tmp_path))
    image, _ = laid(tmp_path, "torch", tmp_path / file, TWO)
    a, b = RANDOM.normal(size=(2, 4, 3)).astype(np.float32)
    with server(python, image, tmp_path) as (address, _):
        answer = outputs(post(f"http://{address}/predictions/small", body(a=a, b=b)))
    np.testing.assert_allclose(answer["y"], a + 2 * b, rtol=1e-6)
    np.testing.assert_allclose(answer["total"], a.sum(axis=1), rtol=1e-5)


def test_a_pytorch_model_that_answers_a_dictionary(python, tmp_path):
    run(str(python), "-c", NAMED, str(tmp_path))
    image, _ = laid(tmp_path, "torch", tmp_path / "named.pt", None)
    a = RANDOM.normal(size=(4, 3)).astype(np.float32)
    with server(python, image, tmp_path) as (address, _):
        answer = outputs(post(f"http://{address}/predictions/small", body(a=a)))
    assert set(answer) == {"out", "rough"}
    np.testing.assert_allclose(answer["out"], a * 2, rtol=1e-6)
    np.testing.assert_allclose(answer["rough"], a, rtol=1e-2)


def test_equal_inputs_make_equal_archives(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(classifier(), path)
    made = []
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        _, record = laid(tmp_path / str(index), "onnx", path, read_signature(path))
        made.append(record)
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "0/small.mar") as archive:
        names = archive.namelist()
    assert names == ["MAR-INF/MANIFEST.json", "model-config.yaml", "small.onnx", "torchserve_handler.py"]
