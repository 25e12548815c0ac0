"""What is written down of an address, so that it is the same file tomorrow."""

import os
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
from faulty_http import Fault
from model_addresses import ONNX, listing, sha256

from gpuserve_images.errors import SourceError
from gpuserve_images.sources import buckets, transfer
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")


def test_a_pin_of_a_file_is_its_digest_and_nothing_is_kept(web):
    url = web.put("small.onnx", ONNX, Fault(cut_after=50))
    found = pin(url)
    assert (found.sha256, found.size) == (sha256(ONNX), len(ONNX))
    assert SourceSpec.parse(found.source).sha256 == sha256(ONNX)
    assert not Path(os.environ["XDG_CACHE_HOME"]).exists()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"ETag": '"old"'}, {}),
        ({"ETag": 'W/"weak"', "Last-Modified": "Fri, 20 Nov 2026 00:00:00 GMT"}, {"ETag": 'W/"weak"'}),
        ({"ETag": "", "Last-Modified": ""}, {"ETag": "", "Last-Modified": ""}),
    ],
    ids=["tag", "time", "neither"],
)
def test_a_file_that_changes_between_a_cut_and_its_rest_is_read_anew(web, monkeypatch, first, then):
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0)
    old = bytes(len(ONNX))
    url = web.put("small.onnx", ONNX, Fault(body=old, cut_after=50, headers=first), Fault(headers=then))
    assert pin(url).sha256 == sha256(ONNX)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html>Log in</html>", "sent a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n", "sent a Git LFS pointer"),
        (b"", "sent nothing: 0 bytes"),
    ],
    ids=["page", "pointer", "empty"],
)
def test_what_is_sent_in_the_place_of_a_model_is_not_pinned(web, content, words):
    url = web.put("small.onnx", content)
    with pytest.raises(SourceError, match=f"{words}.*Use the address that the file itself is downloaded from"):
        pin(url)
    with pytest.raises(SourceError, match=words if content else f"has {sha256(b'')}"):
        fetch(SourceSpec(url=url, sha256=sha256(ONNX), format="onnx"), Path())


def test_a_page_in_a_folder_of_a_model_is_a_file_of_it(web, aws_keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    files = {"card.html": b"<html></html>", "empty.txt": b"", "small.onnx": ONNX}
    for name, content in files.items():
        web.put(f"bucket/m/{name}", content)
    web.put("bucket", listing({f"m/{name}": len(content) for name, content in files.items()}))
    assert pin("s3://bucket/m").size == sum(map(len, files.values()))


def test_a_file_that_did_not_change_goes_on_where_it_was_cut(web, monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0)
    assert pin(web.put("small.onnx", ONNX, Fault(cut_after=50))).sha256 == sha256(ONNX)
    assert web.sent_ranges("small.onnx") == [None, "bytes=50-"]


def test_an_object_that_changes_between_its_blocks_is_refused(web, aws_keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    monkeypatch.setattr(buckets, "_BLOCK_BYTES", 64)
    web.put("bucket/small.onnx", ONNX, Fault(), Fault(), Fault(headers={"ETag": '"new"'}))
    with pytest.raises(SourceError, match="changed while it was read"):
        pin("s3://bucket/small.onnx")
    assert pin("s3://bucket/small.onnx").sha256 == sha256(ONNX)


def test_an_object_that_grew_after_it_was_listed_is_not_pinned_as_its_beginning(web, aws_keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.put("bucket/small.onnx", ONNX, Fault(body=ONNX[:100]))
    with pytest.raises(SourceError, match="changed while it was read"):
        pin("s3://bucket/small.onnx")
    assert pin("s3://bucket/small.onnx").sha256 == sha256(ONNX)


@pytest.mark.parametrize("said", [None, "host.example", "*"])
def test_a_proxy_is_not_asked_for_what_lies_on_this_machine(web, monkeypatch, said):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, said) if said else monkeypatch.delenv(name, raising=False)
    assert pin(web.put("small.onnx", ONNX)).sha256 == sha256(ONNX)


def test_a_proxy_is_asked_for_other_hosts_but_those_that_the_user_excepts(monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0)
    asked = set()

    class Proxy(StreamRequestHandler):
        def handle(self):
            asked.add(self.rfile.readline().split()[1])

    with ThreadingTCPServer(("127.0.0.1", 0), Proxy) as proxy:
        Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "other.invalid")
        for host in ("some.invalid", "other.invalid"):
            with pytest.raises(SourceError):
                pin(f"https://{host}/small.onnx")
        proxy.shutdown()
    assert asked == {b"some.invalid:443"}


@pytest.mark.parametrize("url", ["nothing", "https://a:hidden@host.example/m.onnx", "s3://bucket"])
def test_a_pin_of_no_address(url):
    with pytest.raises(SourceError) as caught:
        pin(url)
    assert "hidden" not in str(caught.value)
