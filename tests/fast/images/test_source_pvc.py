"""`pvc` sources: where a claim is mounted, and where none is."""

from pathlib import Path

import pytest
from model_addresses import ONNX, sha256, source

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.digests import tree_digest
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch, identity
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
HERE = Path()


@pytest.fixture
def claim(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUSERVE_PVC_MOUNTS", str(tmp_path / "mounts"))
    place = tmp_path / "mounts" / "claim"
    (place / "models").mkdir(parents=True)
    (place / "models" / "small.onnx").write_bytes(ONNX)
    return place


def test_a_file_and_a_folder_where_they_lie(claim):
    assert fetch(source("pvc://claim/models/small.onnx"), HERE).entry == claim / "models" / "small.onnx"
    spec = SourceSpec(url="pvc://claim/models", sha256=tree_digest({"small.onnx": sha256(ONNX)}), format="onnx")
    assert fetch(spec, HERE).entry == claim / "models" / "small.onnx"
    assert pin("pvc://claim/models").source == {"url": "pvc://claim/models", "sha256": spec.sha256}
    assert pin("pvc://claim/models/small.onnx").sha256 == sha256(ONNX)


def test_outside_of_the_cluster(monkeypatch):
    monkeypatch.delenv("GPUSERVE_PVC_MOUNTS", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SourceError, match=r"this machine is outside of it.*`builder: job`"):
        fetch(source("pvc://claim/models/small.onnx"), HERE)
    assert identity(source("pvc://claim/models/small.onnx"), HERE)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("pvc://other/models/small.onnx", "is not mounted at .*Mount claim 'other'"),
        ("pvc://claim/models/none.onnx", "does not exist in claim 'claim'"),
        ("pvc://claim/models/link.onnx", "is a link that leaves its claim"),
    ],
)
def test_what_is_not_there(claim, tmp_path, url, words):
    (tmp_path / "secret.onnx").write_bytes(ONNX)
    (claim / "models" / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    with pytest.raises(SourceError, match=words):
        fetch(source(url), HERE)


def test_a_path_that_is_a_link_out_of_its_folder(claim):
    (claim / "other.onnx").write_bytes(ONNX)
    (claim / "models" / "link.onnx").symlink_to("../other.onnx")
    digest = tree_digest({"link.onnx": sha256(ONNX), "small.onnx": sha256(ONNX)})
    with pytest.raises(SourceError, match=r"leaves the folder that `source.url` names"):
        fetch(SourceSpec(url="pvc://claim/models", path="link.onnx", sha256=digest), HERE)


def test_changed_content(claim):
    (claim / "models" / "small.onnx").write_bytes(b"other")
    with pytest.raises(SourceError, match=f"has the digest {sha256(b'other')}, and {sha256(ONNX)} was expected"):
        fetch(source("pvc://claim/models/small.onnx"), HERE)


def test_a_pickle_in_a_volume(claim):
    (claim / "models" / "small.onnx").write_bytes(b"\x80\x04.")
    with pytest.raises(SourceError, match="is a pickle"):
        fetch(source("pvc://claim/models/small.onnx", b"\x80\x04."), HERE)
