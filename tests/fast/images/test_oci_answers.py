"""Answers that the protocol allows and few registries give."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import requests

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, Layer, bake, retries
from gpuserve_images.oci.artifact import read_artifact
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.listing import images_of
from gpuserve_images.pipeline.sharing import STAGE_ARTIFACT, StageShare
from gpuserve_images.sources import transfer
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

PLACE = Reference("localhost:1", "m", "1")
CONTENT = json.dumps({"schemaVersion": 2}).encode()
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def client(monkeypatch):
    """A client of a registry that does not know HEAD."""

    def send(_session, request, **_):
        answer = requests.Response()
        answer.url, answer.request = request.url, request
        answer.status_code = 405 if request.method == "HEAD" else 200 if "/manifests/1" in request.url else 404
        answer._content = CONTENT if answer.status_code == 200 else b""
        return answer

    monkeypatch.setattr(requests.Session, "send", send)
    return RegistryClient(PLACE.host)


def test_without_head_the_manifest_itself_is_asked_for(client):
    assert client.head_manifest(PLACE) == DIGEST
    assert client.head_manifest(Reference(PLACE.registry, "m", "2")) is None


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("/v2/m/blobs/uploads/1?state=x", "http://localhost:1/v2/m/blobs/uploads/1?state=x"),
        ("1?state=x", "http://localhost:1/v2/m/blobs/uploads/1?state=x"),
        ("https://store.example/1", "https://store.example/1"),
    ],
)
def test_a_location_is_relative_to_what_was_asked(client, location, found):
    answer = requests.Response()
    answer.url = client.url(PLACE, "blobs/uploads/")
    answer.headers["Location"] = location
    assert client.location(answer) == found


@pytest.mark.parametrize("content", [b"<html>Log in first</html>", b"[]", b"\xff\xfe"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.manifest(PLACE),
        lambda client: client.head_manifest(PLACE),
        lambda _: images_of(f"{PLACE.registry}/{PLACE.repository}"),
        lambda _: bake(str(PLACE), [Layer({"/a": File(b"a")})], base=str(PLACE)),
    ],
)
def test_what_is_no_registry_is_said(monkeypatch, ask, content):
    """The page of a proxy to log in at, or another server at that port: it answers every question with the same."""

    def send(_session, request, **_):
        answer = requests.Response()
        answer.url, answer.request, answer.status_code, answer._content = request.url, request, 200, content
        answer.headers["Content-Type"] = "text/html; charset=utf-8"
        return answer

    monkeypatch.setattr(requests.Session, "send", send)
    with pytest.raises(
        RegistryError, match=r"localhost:1.*something that no registry does \(text/html\)\. Fix: Correct the address"
    ):
        ask(RegistryClient(PLACE.host))


@pytest.fixture
def endless(web, monkeypatch):
    """A registry whose blob is much longer than its manifest says, and that says no length."""
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0.005)
    layer = {"mediaType": "text/plain", "digest": DIGEST, "size": len(CONTENT)}
    stage = {
        "artifactType": STAGE_ARTIFACT,
        "layers": [{**layer, "annotations": {"org.opencontainers.image.title": "small.onnx"}}],
    }
    manifest = json.dumps(stage).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    for selector in (digest, f"int8-{'a' * 40}"):
        web.put(f"v2/m/manifests/{selector}", manifest)
    web.put(f"v2/m/blobs/{DIGEST}", CONTENT * 100_000)
    return f"{web.url.removeprefix('http://')}/m@{digest}"


@pytest.mark.usefixtures("nothing_of_the_user")
@pytest.mark.parametrize(
    "read", [read_artifact, lambda it: fetch(SourceSpec(url=f"oci://{it}", format="onnx"), Path())], ids=["document", "source"]
)
def test_what_is_longer_than_it_should_be_is_not_read_to_its_end(endless, read):
    with pytest.raises(ImageError, match=f"answered more than {len(CONTENT)} bytes when asked for {DIGEST}"):
        read(endless)
    cache = Path(os.environ["XDG_CACHE_HOME"])
    assert sum(path.stat().st_size for path in cache.rglob("small.onnx")) <= len(CONTENT)


def test_a_stage_that_is_longer_than_it_should_be_does_not_fill_the_disk(endless, tmp_path):
    notes = []
    assert not StageShare(endless.partition("@")[0], notes.append).take("int8", "a" * 64, tmp_path)
    assert len(notes) == 1
    assert f"answered more than {len(CONTENT)} bytes" in notes[0]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) <= len(CONTENT)
