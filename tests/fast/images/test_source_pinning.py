"""What is written down of an address, so that it is the same file tomorrow."""

import os
from pathlib import Path

import pytest
from faulty_http import Fault
from model_addresses import ONNX, sha256

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")


def test_a_pin_of_a_file_is_its_digest_and_nothing_is_kept(web):
    url = web.put("small.onnx", ONNX, Fault(cut_after=50))
    found = pin(url)
    assert (found.sha256, found.size) == (sha256(ONNX), len(ONNX))
    assert SourceSpec.parse(found.source).sha256 == sha256(ONNX)
    assert not Path(os.environ["XDG_CACHE_HOME"]).exists()


@pytest.mark.parametrize("url", ["nothing", "https://a:hidden@host.example/m.onnx", "s3://bucket"])
def test_a_pin_of_no_address(url):
    with pytest.raises(SourceError) as caught:
        pin(url)
    assert "hidden" not in str(caught.value)
