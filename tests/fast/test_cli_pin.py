"""`gpuserve images pin`: the lines it prints are a `source:` that builds take."""

import hashlib
import json

import pytest
import yaml
from e2e_small_model import classifier
from faulty_http import FaultyServer

from gpuserve_images.oci import File, push_artifact
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

ONNX = classifier().SerializeToString()
SHA256 = hashlib.sha256(ONNX).hexdigest()
COMMIT = "c" * 40


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with FaultyServer() as running:
        yield running


def test_a_file_is_pinned_by_its_digest(cli, server, tmp_path):
    url = server.put("small.onnx", ONNX)
    told = cli("images", "pin", url)
    assert told.exit_code == 0, told.output
    source = yaml.safe_load(told.stdout)
    assert source == {"source": {"url": url, "sha256": SHA256}}
    assert fetch(SourceSpec.parse(source["source"]), tmp_path).entry.read_bytes() == ONNX


def test_the_same_as_json(cli, server):
    url = server.put("small.onnx", ONNX)
    told = cli("images", "pin", url, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == {"url": url, "sha256": SHA256, "size": len(ONNX)}


def test_a_repository_is_pinned_by_its_commit(cli, server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.put("api/models/owner/model", json.dumps({"id": "owner/model", "sha": COMMIT}).encode())
    told = cli("images", "pin", "hf://owner/model", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == {"url": f"hf://owner/model@{COMMIT}", "size": None}


def test_an_artifact_is_pinned_by_its_digest(cli, registry, tmp_path):
    (tmp_path / "small.onnx").write_bytes(ONNX)
    reference = f"{registry.host}/pins/small:1"
    pushed = push_artifact(reference, {"small.onnx": File(tmp_path / "small.onnx")}, artifact_type="application/vnd.test")
    told = cli("images", "pin", f"oci://{reference}")
    assert told.exit_code == 0, told.output
    assert yaml.safe_load(told.stdout) == {"source": {"url": f"oci://{registry.host}/pins/small@{pushed.digest}"}}


def test_what_is_not_there_is_a_sentence(cli, server):
    told = cli("images", "pin", f"{server.url}/none.onnx")
    assert told.exit_code == 1
    assert "HTTP 404" in told.output
    assert "Traceback" not in told.output
