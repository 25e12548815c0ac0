"""Web servers that pack what was asked for as it is."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import pytest
from e2e_small_model import classifier
from faulty_http import Fault

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.packed import unpacked
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.remote import HiccupError
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
MODEL = classifier().SerializeToString()
LARGE = os.urandom(2**20) * 3
PACKED = gzip.compress(LARGE)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def get(url: str, content: bytes) -> bytes:
    spec = SourceSpec.parse({"url": url, "sha256": sha256(content), "format": "lightgbm"})
    return fetch(spec, Path()).entry.read_bytes()


def packed(encoding: str = "gzip", **more) -> Fault:
    return Fault(headers={"Content-Encoding": encoding}, **more)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_the_file_is_what_is_packed(web, encoding):
    url = web.put("small.onnx", gzip.compress(MODEL), packed(encoding))
    assert pin(url).sha256 == sha256(MODEL)
    web.faults["small.onnx"] = [packed(encoding)]
    assert get(url, MODEL) == MODEL


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "identity", ""])
@pytest.mark.parametrize("name", ["model.txt.gz", "MODEL.TGZ"])
def test_a_packed_file_stays_as_it_is_however_it_is_labelled(web, name, encoding):
    url = web.put(name, PACKED, packed(encoding))
    assert pin(url).sha256 == sha256(PACKED)


def test_one_that_an_address_leads_to_does_so_too(web):
    web.put("stored/weights.txt.gz", PACKED, packed())
    url = web.put("latest", b"", Fault(status=302, headers={"Location": "/stored/weights.txt.gz"}))
    assert pin(url).sha256 == sha256(PACKED)


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_another_packing_is_refused(web, encoding):
    url = web.put("small.onnx", MODEL, packed(encoding))
    with pytest.raises(SourceError, match=rf"small\.onnx \(Content-Encoding: {encoding}\): is sent packed by its server"):
        pin(url)


@pytest.mark.parametrize("first", [packed(cut_after=700_000), packed(cut_after=10), Fault(cut_after=700_000)])
@pytest.mark.parametrize("second", [packed(), Fault(body=LARGE)])
def test_what_was_cut_is_whole_in_the_end(web, first, second):
    """The packed file may be the one that is continued, or the plain one by a server that packs from now on."""
    first.body = PACKED if first.headers else LARGE
    url = web.put("weights.txt", PACKED, first, second, packed())
    assert get(url, LARGE) == LARGE


def test_pinning_continues_no_packed_bytes(web):
    url = web.put("weights.txt", PACKED, packed(cut_after=700_000), packed())
    assert pin(url).sha256 == sha256(LARGE)
    assert web.sent_ranges("weights.txt") == [None, None]


@pytest.mark.parametrize("length", [2**20, 7, 1])
def test_streams_of_any_pieces_and_parts(length):
    stream = b"".join(gzip.compress(part) for part in (b"a" * 5_000_000, b"", b"end"))
    pieces = [stream[begin : begin + length] for begin in range(0, len(stream), length)]
    found = list(unpacked(iter(pieces)))
    assert b"".join(found) == b"a" * 5_000_000 + b"end"
    assert max(map(len, found)) <= 2**20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PACKED[:-1], "was cut"),
        (gzip.compress(b"")[:5], "was cut"),
        (MODEL, "and it is not"),
        (zlib.compress(MODEL), "it is not"),
    ],
    ids=["end", "head", "plain", "zlib"],  # gzip writes the time of day into its head
)
def test_what_is_no_whole_stream(content, words):
    with pytest.raises(HiccupError, match=words):
        list(unpacked(iter([content])))
    assert list(unpacked(iter([]))) == []
