"""Servers that lead to addresses which are none: said at once, by whose answer it was."""

import pytest
from faulty_http import Fault

from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.sources.pinning import pin
from gpuserve_images.waiting import asked_wait

pytestmark = pytest.mark.usefixtures("nothing_of_the_user", "_no_waiting")
DIGEST = f"sha256:{'0' * 64}"
NOWHERE = [
    "http://[half/",
    "http://host:notaport/x",
    "http://127.0.0.1:99999/x",
    f"http://{'a' * 300}/",
    "http://..example/x",
    "ftp://host/x",
    "caf\xe9",
]


@pytest.fixture
def _no_waiting(monkeypatch):
    def wait(*_):
        pytest.fail("what lasts is asked again")

    for place in ("gpuserve_images.oci.client.pause", "gpuserve_images.oci.uploads.pause", "time.sleep"):
        monkeypatch.setattr(place, wait)


def to(location, status=307):
    return Fault(status=status, headers={"Location": location})


@pytest.mark.parametrize("location", NOWHERE)
def test_a_redirect_of_a_file(web, location):
    url = web.put("small.onnx", b"", to(location))
    with pytest.raises(SourceError, match=f"^{url}: redirects to what is no address. Fix: Open the address with curl"):
        pin(url)


@pytest.mark.parametrize("location", NOWHERE)
@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("v2/m/manifests/1", lambda client, place: client.manifest(place)),
        (f"v2/m/blobs/{DIGEST}", lambda client, place: b"".join(client.blob(place, DIGEST, 10))),
    ],
)
def test_a_redirect_of_a_registry(web, location, path, ask):
    host = web.url.removeprefix("http://")
    web.put(path, b"", to(location))
    with pytest.raises(RegistryError, match=f"^registry {host}, repository m: it leads to an address that is none"):
        ask(RegistryClient(host), Reference.parse(f"{host}/m:1"))


@pytest.mark.parametrize("location", NOWHERE[:-1])
def test_where_a_registry_wants_a_blob(web, location):
    host = web.url.removeprefix("http://")
    web.put("v2/m/blobs/uploads/", b"", *[to(location, 202)] * 9)
    with pytest.raises(RegistryError, match=f"^registry {host}.*it leads to an address that is none"):
        bake(f"{host}/m:1", [Layer({"/a": File(b"a")})])


@pytest.mark.parametrize("location", NOWHERE[3:5])
def test_a_redirect_of_the_hub(web, location, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.put("api/models/owner/model/revision/main", b"", to(location))
    with pytest.raises(SourceError, match=r"is answered with an address that is none. Fix: Look at HF_ENDPOINT"):
        pin("hf://owner/model@main")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("9" * 400, float("inf")),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2030 00:00:999999999999999 GMT", None),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("soon", None),
    ],
)
def test_a_wait_that_is_asked_for(header, seconds):
    assert asked_wait(header) == seconds
