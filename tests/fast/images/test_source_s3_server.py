"""`s3` sources from moto's server, which is what AWS's own clients are tested against."""

import os
import socket
import subprocess
import time
from pathlib import Path

import obstore
import pytest
import requests
from environments import environment
from model_addresses import ONNX, sha256, source
from obstore.store import S3Store

from gpuserve_images.errors import SourceError
from gpuserve_images.sources import buckets
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_of_the_user")]
HERE = Path()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    command = [str(environment("s3")), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.put(f"{url}/models", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def put(endpoint, aws_keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = S3Store("models", client_options={"allow_http": True})
    return lambda key, content: obstore.put(store, key, content)


def test_an_object_of_several_blocks_continued_by_another_process(put):
    content = os.urandom(2 * buckets._BLOCK_BYTES + 12345)
    spec = source("s3://models/big/weights-e.txt", content, format="lightgbm")
    put("big/weights-e.txt", content)
    left = Path(os.environ["XDG_CACHE_HOME"], "gpuserve/sources/partial", spec.sha256, "files/file/weights-e.txt")
    left.parent.mkdir(parents=True)
    left.write_bytes(content[:1_000_000])
    told = []
    assert fetch(spec, HERE, progress=lambda *said: told.append(said[1])).entry.read_bytes() == content
    assert told[0] == 1_000_000, "the bytes that were there are not asked for"
    assert told[-1] == len(content)


def test_a_folder_and_its_pin(put):
    files = {"config.json": b"{}", "model-00001.safetensors": os.urandom(1000), "deep/er/vocab.txt": b"words"}
    for name, content in files.items():
        put(f"hf/{name}", content)
    found = pin("s3://models/hf/")
    assert found.size == sum(map(len, files.values()))
    spec = SourceSpec.parse({**found.source, "format": "huggingface"})
    assert {name: path.read_bytes() for name, path in fetch(spec, HERE).files.items()} == files


def test_absent_wrong_and_changed(put):
    put("small.onnx", ONNX)
    with pytest.raises(SourceError, match="does not exist"):
        fetch(source("s3://models/none.onnx"), HERE)
    with pytest.raises(SourceError, match=f"{sha256(ONNX)}, and {sha256(b'')} was expected"):
        fetch(source("s3://models/small.onnx", b""), HERE)
    assert fetch(source("s3://models/small.onnx"), HERE).entry.read_bytes() == ONNX


def test_a_bucket_that_is_not_there(put):
    with pytest.raises(SourceError, match="does not exist"):
        fetch(source("s3://another-bucket/small.onnx"), HERE)
