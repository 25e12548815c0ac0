"""`gs` sources, from a server that speaks as much of the protocol as reading takes."""

from pathlib import Path

import pytest
from faulty_http import Fault
from model_addresses import ONNX, listing, sha256, source

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.digests import tree_digest
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
HERE = Path()


@pytest.fixture
def gs(web, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", web.url)
    return web


def test_an_object(gs):
    gs.put("bucket/models/small.onnx", ONNX, Fault(status=503), Fault(), Fault(cut_after=100))
    assert fetch(source("gs://bucket/models/small.onnx"), HERE).entry.read_bytes() == ONNX
    assert len(gs.sent_ranges("bucket/models/small.onnx")) == 2, "the cut one and another"


def test_a_folder(gs):
    gs.put("bucket/m/small.onnx", ONNX)
    gs.put("bucket", listing({"m/small.onnx": len(ONNX)}))
    spec = SourceSpec(url="gs://bucket/m", sha256=tree_digest({"small.onnx": sha256(ONNX)}), format="onnx")
    assert fetch(spec, HERE).entry.read_bytes() == ONNX


def test_refused(gs):
    gs.put("bucket/small.onnx", ONNX, Fault(status=403))
    with pytest.raises(SourceError, match=r"may not be read with these credentials.*GOOGLE_APPLICATION_CREDENTIALS"):
        fetch(source("gs://bucket/small.onnx"), HERE)
