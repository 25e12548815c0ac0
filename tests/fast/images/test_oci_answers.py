"""Answers that the protocol allows and few registries give."""

import hashlib
import json

import pytest
import requests

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.listing import images_of

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
