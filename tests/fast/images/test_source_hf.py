"""`hf` sources: the requests of the Hub's API that reading a repository takes."""

import hashlib
import json
from pathlib import Path

import huggingface_hub
import pytest
from faulty_http import Fault, FaultyServer
from model_addresses import ONNX, sha256

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import at_hand, fetch, identity
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
HERE = Path()
COMMIT = "c" * 40
REPOSITORY = "owner/model"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "sub/vocab.txt": b"words"}


@pytest.fixture
def hub(web, monkeypatch):
    """The requests of the Hub's API that reading a repository takes."""
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    publish(web, FILES)
    return web


def publish(server, files):
    entries = [entry(name, content) for name, content in files.items()]
    api = f"api/models/{REPOSITORY}"
    plain = {"Content-Type": "application/json"}
    server.put(f"{api}/tree/{COMMIT}", json.dumps(entries).encode(), *[Fault(headers=plain)] * 9)
    server.put(f"{api}/revision/main", json.dumps({"id": REPOSITORY, "sha": COMMIT}).encode())
    server.put(api, json.dumps({"id": REPOSITORY, "sha": COMMIT}).encode())
    for name, content in files.items():
        server.put(f"{REPOSITORY}/resolve/{COMMIT}/{name}", content)


def entry(name, content):
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    lfs = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    large = name.endswith(".safetensors")
    return {"type": "file", "path": name, "size": len(content), "oid": blob} | ({"lfs": lfs} if large else {})


def spec(path="", **more):
    return SourceSpec.parse({"url": f"hf://{REPOSITORY}@{COMMIT}{path}", **more})


def test_a_repository_at_a_commit(hub):
    found = fetch(spec(), HERE)
    assert found.format == "huggingface"
    assert {name: path.read_bytes() for name, path in found.files.items()} == FILES
    before = len(hub.asked)
    assert fetch(spec(), HERE) == found
    assert len(hub.asked) == before


@pytest.mark.parametrize("path", ["", "/onnx/model.onnx"])
def test_a_declared_digest_is_checked_in_the_cache_too(hub, path):
    publish(hub, {**FILES, "onnx/model.onnx": ONNX})
    one = [entry("onnx/model.onnx", ONNX)]
    hub.put(f"api/models/{REPOSITORY}/paths-info/{COMMIT}", json.dumps(one).encode())
    found = fetch(spec(path), HERE)
    before = len(hub.asked)
    assert fetch(spec(path, sha256=found.sha256), HERE) == found
    for ask in (fetch, at_hand):
        with pytest.raises(SourceError, match=f"has the digest {found.sha256}, and {'0' * 64} was expected"):
            ask(spec(path, sha256="0" * 64), HERE)
    assert len(hub.asked) == before, "what is there already is not fetched again"
    assert fetch(spec(path), HERE) == found


def test_only_what_is_wanted(hub):
    hub.put("unused", b"")
    publish(hub, {**FILES, "pytorch_model.bin": b"pickle"})
    with pytest.raises(SourceError, match=r"pytorch_model.bin\): is a pickle.*`include:`"):
        fetch(spec(), HERE)
    found = fetch(spec(include=["*.json", "*.safetensors"]), HERE)
    assert set(found.files) == {"config.json", "model.safetensors"}
    assert identity(spec(), HERE) != identity(spec(include=["*.json"]), HERE)


def test_one_file(hub):
    publish(hub, {"onnx/model.onnx": ONNX})
    one = [entry("onnx/model.onnx", ONNX)]
    hub.put(f"api/models/{REPOSITORY}/paths-info/{COMMIT}", json.dumps(one).encode())
    assert fetch(spec("/onnx/model.onnx"), HERE).entry.read_bytes() == ONNX


def test_a_token_is_sent_and_never_shown(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_hidden")
    url = f"{REPOSITORY}/resolve/{COMMIT}/config.json"
    hub.put(url, b"{}", Fault(status=403))
    with pytest.raises(SourceError, match=r"HTTP 403.*HF_TOKEN") as caught:
        fetch(spec(), HERE)
    assert {asked.authorization for asked in hub.asked} == {"Bearer hf_hidden"}
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("token", ["hf_hidden\u00e9", "hf_hidden other", "\u201chf_hidden\u201d"])
def test_a_token_that_no_header_can_hold_is_refused_before_anything_is_asked(hub, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(
        SourceError, match=r"^HF_TOKEN: its value, or that of the login, is no token.*Fix: Copy it again"
    ) as caught:
        fetch(spec(), HERE)
    assert not hub.asked
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_every_file_is_verified(hub, name):
    hub.put(f"{REPOSITORY}/resolve/{COMMIT}/{name}", b"other" + bytes(len(FILES[name])))
    with pytest.raises(SourceError, match=r"was expected|sent"):
        fetch(spec(), HERE)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "does not exist, or is private"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "has no such commit"),
        (403, {"X-Error-Code": "GatedRepo"}, "accepted its terms"),
        (403, {}, "may not be read"),
    ],
)
def test_refusals(hub, status, headers, words):
    hub.put(f"api/models/{REPOSITORY}/tree/{COMMIT}", b"", *[Fault(status=status, headers=headers)] * 9)
    with pytest.raises(SourceError, match=words):
        fetch(spec(), HERE)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(hub, status):
    tree, file = f"api/models/{REPOSITORY}/tree/{COMMIT}", f"{REPOSITORY}/resolve/{COMMIT}/config.json"
    plain = Fault(headers={"Content-Type": "application/json"})
    hub.put(tree, hub.files[tree], Fault(status=status), Fault(status=status), *[plain] * 9)
    hub.put(file, b"{}", Fault(status=status))
    assert set(fetch(spec(), HERE).files) == set(FILES)
    assert [asked.path.partition("?")[0] for asked in hub.asked].count(f"/{tree}") == 3


def test_a_long_list_comes_in_pages(hub):
    tree = f"api/models/{REPOSITORY}/tree/{COMMIT}"
    entries = [{"type": "directory", "path": "sub", "oid": "0" * 40, "size": 0}]
    entries += [entry(name, content) for name, content in FILES.items()]
    hub.put("more", json.dumps(entries[2:]).encode())
    follows = {"Link": f'<{hub.url}/more>; rel="next"'}
    hub.put(tree, json.dumps(entries[:2]).encode(), Fault(headers=follows))
    assert {name: path.read_bytes() for name, path in fetch(spec(), HERE).files.items()} == FILES


@pytest.mark.parametrize("status", [429, 502])
def test_a_hub_that_stays_away_is_given_up(hub, status):
    hub.put(f"api/models/{REPOSITORY}/tree/{COMMIT}", b"", *[Fault(status=status)] * 99)
    with pytest.raises(SourceError, match=f"failed 6 times in a row: HTTP {status}: the hub failed"):
        fetch(spec(), HERE)


def test_a_hub_that_asks_for_an_hour_is_not_waited_for(hub):
    hub.put(f"api/models/{REPOSITORY}/tree/{COMMIT}", b"", *[Fault(status=429, headers={"Retry-After": "3600"})] * 9)
    with pytest.raises(SourceError, match="HTTP 429: the hub failed, and asks for a pause of 3600 s"):
        fetch(spec(), HERE)


def test_a_cut_file_is_continued(hub):
    url = f"{REPOSITORY}/resolve/{COMMIT}/model.safetensors"
    hub.put(url, FILES["model.safetensors"], Fault(cut_after=1000))
    fetch(spec(), HERE)
    assert hub.sent_ranges(url) == [None, "bytes=1000-"]


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that answers like a hub, for whoever asks it."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultyServer() as running:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, running.url)
        # The hub's library keeps its connections, and with them its proxies.
        huggingface_hub.close_session()
        yield running
    huggingface_hub.close_session()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_asked_for_a_hub_of_this_machine(hub, proxy, monkeypatch, host):
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("127.0.0.1", host))
    assert pin(f"hf://{REPOSITORY}").url.endswith(COMMIT)
    assert fetch(spec(), HERE).format == "huggingface"
    assert proxy.asked == []


def test_a_proxy_is_asked_for_another_hub(hub, proxy, monkeypatch):
    pin(f"hf://{REPOSITORY}")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    address = f"http://hub.invalid/api/models/{REPOSITORY}"
    proxy.put(address[1:], json.dumps({"id": REPOSITORY, "sha": "d" * 40}).encode())
    assert pin(f"hf://{REPOSITORY}").url.endswith("d" * 40)
    assert address in [request.path for request in proxy.asked][-1]


def test_the_pin_is_the_commit(hub):
    assert pin(f"hf://{REPOSITORY}").source == {"url": f"hf://{REPOSITORY}@{COMMIT}"}
    assert pin(f"hf://{REPOSITORY}@main/sub").url == f"hf://{REPOSITORY}@{COMMIT}/sub"
