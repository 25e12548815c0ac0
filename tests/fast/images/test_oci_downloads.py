"""A base on another registry whose line breaks: every byte comes once, the image is whole, and what never comes is said."""

import hashlib

import pytest
from e2e_registry import RegistryServer
from faulty_http import Fault, FaultyServer

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, bake, downloads, retries
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import CONFIG, LAYER, descriptor, encode, image_manifest
from gpuserve_images.oci.downloads import steadily
from gpuserve_images.oci.reference import Reference

CONTENT = bytes(range(256)) * 12_000  # 3 MB: three chunks, the last one short
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
BLOB = f"v2/base/blobs/{DIGEST}"
NEW = [Layer({"/m": File(b"model")})]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setattr(downloads, "GAIN_BYTES", 100_000)


@pytest.fixture
def far(request):
    """A registry elsewhere that has one image, and fails where a test wants it to."""
    with FaultyServer(ranges=getattr(request, "param", True)) as server:
        config = encode(
            {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}
        )
        about = descriptor(CONFIG, f"sha256:{hashlib.sha256(config).hexdigest()}", len(config))
        manifest = encode(image_manifest(about, [descriptor(LAYER, DIGEST, len(CONTENT))], {}))
        server.put(f"v2/base/blobs/{about['digest']}", config)
        server.put("v2/base/manifests/1", manifest)
        server.faults["v2/base/manifests/1"] = []
        yield server


def serve(server, *faults):
    server.put(BLOB, CONTENT, *faults)
    return server.url.removeprefix("http://")


def received(server, *faults, start=0):
    host = serve(server, *faults)
    return b"".join(steadily(RegistryClient(host), Reference(host, "base"), DIGEST, len(CONTENT), start))


class TestBake:
    """Through `bake`, from a server that fails to a real registry."""

    @pytest.mark.parametrize("far", [True, False], indirect=True, ids=["ranges", "no ranges"])
    @pytest.mark.parametrize("cuts", [[1_500_000], [0, 1_100_000, 900_000]], ids=["one", "three"])
    def test_a_cut_costs_no_run(self, far, registry, cuts):
        host = serve(far, *(Fault(cut_after=cut) for cut in cuts))
        name = f"cut/{'ranges' if far.ranges else 'whole'}{len(cuts)}"
        result = bake(f"{registry.host}/{name}:1", NEW, base=f"{host}/base:1")
        there = RegistryClient(registry.host).blob(Reference(registry.host, name), DIGEST)
        assert there == CONTENT
        assert result.uploaded_bytes > len(CONTENT)
        asked = far.sent_ranges(f"{BLOB}")
        assert len(asked) == len(cuts) + 1
        assert asked[0] is None
        assert asked[-1] == "bytes=1048576-", "what arrived is not asked for again"

    def test_what_breaks_off_time_after_time_is_said_and_nothing_is_left(self, far, tmp_path):
        host = serve(far, *[Fault(cut_after=10)] * 50)
        with RegistryServer(tmp_path) as target:
            with pytest.raises(RegistryError) as raised:
                bake(f"{target.host}/never/m:1", NEW, base=f"{host}/base:1")
            assert RegistryClient(target.host).head_manifest(Reference(target.host, "never/m", "1")) is None
        said = str(raised.value)
        assert f"registry {host}, repository base: the connection broke 4 times in a row" in said
        assert f"at byte 0 of {len(CONTENT)}" in said
        assert "Start the registry" not in said
        assert len(far.sent_ranges(BLOB)) == 4

    def test_other_bytes_after_a_cut_never_become_an_image(self, far, registry):
        host = serve(far, Fault(cut_after=1_500_000), Fault(body=bytes(len(CONTENT))))
        with pytest.raises(RegistryError, match="HTTP 400"):
            bake(f"{registry.host}/other/m:1", NEW, base=f"{host}/base:1")
        assert RegistryClient(registry.host).head_manifest(Reference(registry.host, "other/m", "1")) is None


@pytest.mark.parametrize("start", [0, 1, 1_048_576, len(CONTENT) - 1])
def test_reading_may_begin_anywhere(far, start):
    assert received(far, Fault(cut_after=1_100_000), start=start) == CONTENT[start:]


@pytest.mark.parametrize("far", [True, False], indirect=True, ids=["ranges", "no ranges"])
def test_a_line_that_gets_on_may_break_often(far):
    far_cuts = [Fault(cut_after=1_100_000 + (0 if far.ranges else step * 1_048_576)) for step in range(2)]
    # Each but the last brings a chunk; with three that bring none between them it is still not four in a row.
    faults = [far_cuts[0], *[Fault(cut_after=5)] * 2, far_cuts[1], *[Fault(cut_after=5)] * 2]
    assert received(far, *faults) == CONTENT


def test_a_registry_that_begins_elsewhere_is_not_believed(far):
    elsewhere = Fault(
        status=206, body=CONTENT[2_000_000:], headers={"Content-Range": f"bytes 2000000-{len(CONTENT) - 1}/{len(CONTENT)}"}
    )
    with pytest.raises(RegistryError, match="4 times in a row"):
        received(far, Fault(cut_after=1_100_000), *[elsewhere] * 9)
    before = Fault(
        status=206, body=CONTENT[1_000_000:], headers={"Content-Range": f"bytes 1000000-{len(CONTENT) - 1}/{len(CONTENT)}"}
    )
    assert received(far, Fault(cut_after=1_100_000), before) == CONTENT


def test_a_refusal_after_a_cut_is_said_as_it_is(far):
    with pytest.raises(RegistryError, match="HTTP 403"):
        received(far, Fault(cut_after=1_100_000), Fault(status=403))
