"""Models that run code when they are loaded: refused from addresses unless they are allowed by name."""

import gzip
import hashlib
import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from source_archives import LIGHTGBM, ONNX, XGBOOST, remote, tar

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.digests import tree_digest
from gpuserve_images.sources.pickles import pickled
from gpuserve_images.sources.resolving import fetch, identity
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("own_cache")


def packed(content: bytes) -> bytes:
    """Return it compressed, the same at every second: the processes that share out the tests name them after it."""
    return gzip.compress(content, mtime=0)


class Danger:
    """Makes a file when it is unpickled: the mark that a test looks for."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def dangers(mark: Path) -> dict[str, bytes]:
    """Every kind of file that runs code when it is loaded, by name."""
    plain = pickle.dumps(Danger(mark))
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    torch_zip, npz, mar = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(torch_zip, "w") as archive:
        archive.writestr("archive/data.pkl", plain)
    np.savez(npz, a=np.array([None]), allow_pickle=True)
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", "{}")
        archive.writestr("model.pt", b"")
    return {
        **{f"protocol {number}": pickle.dumps(Danger(mark), number) for number in range(6)},
        "without a start": pickle.dumps(Danger(mark), 4)[11:],
        "joblib, gzip": gzip.compress(plain),
        "joblib, gzip of protocol 0": gzip.compress(pickle.dumps(Danger(mark), 0)),
        "joblib, gzip in two parts": gzip.compress(b"") + gzip.compress(plain),
        "joblib, zlib": zlib.compress(plain),
        "joblib, bz2": __import__("bz2").compress(plain),
        "joblib, xz": __import__("lzma").compress(plain),
        "torch": torch_zip.getvalue(),
        "npy": objects.getvalue(),
        "npz": npz.getvalue(),
        "mar": mar.getvalue(),
    }


@pytest.mark.filterwarnings(
    "ignore:invalid escape sequence:DeprecationWarning"
)  # of pickletools, at some times of day in a zip's head
class TestPickles:
    @pytest.fixture
    def claim(self, tmp_path, monkeypatch):
        """Return what puts a file into a volume of the cluster."""
        monkeypatch.setenv("GPUSERVE_PVC_MOUNTS", str(tmp_path / "mounts"))
        place = tmp_path / "mounts" / "claim"
        place.mkdir(parents=True)

        def put(name: str, content: bytes, **more: object) -> SourceSpec:
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)
            return SourceSpec.parse({"url": f"pvc://claim/{name}", "sha256": hashlib.sha256(content).hexdigest(), **more})

        return put

    @pytest.mark.parametrize("form", [None, "torch", "xgboost", "sklearn"])
    @pytest.mark.parametrize("kind", dangers(Path("none")).keys())
    def test_by_content_whatever_they_are_called(self, web, claim, tmp_path, kind, form):
        mark = tmp_path / "ran"
        content = dangers(mark)[kind]
        for spec in (remote(web, "model.onnx", content, format=form), claim("model.onnx", content, format=form)):
            with pytest.raises(SourceError, match=r"is a pickle, which runs code.*`allow_pickle: true`"):
                fetch(spec, tmp_path)
        assert not mark.exists()

    @pytest.mark.parametrize(
        "name",
        [
            *("m.pkl", "m.pickle", "m.joblib", "m.pt", "m.pth", "m.pt2", "m.mar", "M.PKL", "pytorch_model-00001-of-2.bin"),
            *("m.joblib.gz", "M.PKL.GZ", "pytorch_model.bin.gz", "m.pkl.xz", "m.joblib.lz4"),
        ],
    )
    def test_by_name_before_the_download(self, web, claim, tmp_path, name):
        for spec in (remote(web, name, b"anything", format="onnx"), claim(name, b"anything", format="onnx")):
            for read in (fetch, identity):
                with pytest.raises(SourceError, match=r"is a pickle.*its name says so"):
                    read(spec, tmp_path)
        assert not web.asked

    @pytest.mark.parametrize("name", ["m.gz", "m", "m.onnx", "m.tar.gz"])
    def test_a_format_that_is_nothing_else_before_the_download(self, web, claim, tmp_path, name):
        # No code at the start: what comes later in a file is not looked at, so the format alone must be enough.
        content = gzip.compress(pickle.dumps(b"a" * 2**17 + b"more"))
        for spec in (remote(web, name, content, format="sklearn"), claim(name, content, format="sklearn")):
            for read in (fetch, identity):
                with pytest.raises(SourceError, match=r"\(sklearn\): is a pickle.*every model file of this format"):
                    read(spec, tmp_path)
            trusted = SourceSpec.parse({**spec.model_dump(exclude_none=True), "allow_pickle": True})
            if name != "m.tar.gz":
                assert fetch(trusted, tmp_path).format == "sklearn"
        assert len(web.asked) == (name != "m.tar.gz")

    @pytest.mark.parametrize("name", ["whole.zip/m.onnx", "whole/m.pt2", "whole/m.joblib.gz"])
    def test_one_in_a_folder_of_a_volume(self, claim, tmp_path, name):
        mark = tmp_path / "ran"
        content = pickle.dumps(Danger(mark), 0) if name.endswith("onnx") else b"anything"
        spec = claim(name, content, format="onnx")
        folder, _, file = name.partition("/")
        digest = tree_digest({file: spec.sha256})
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(SourceSpec(url=f"pvc://claim/{folder}", sha256=digest, format="onnx", path=file), tmp_path)

    def test_one_that_the_cache_has_from_where_it_was_allowed(self, web, tmp_path):
        fetch(remote(web, "m.pt2", b"anything", allow_pickle=True), tmp_path)
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(remote(web, "m.pt2", b"anything"), tmp_path)

    def test_leave(self, web, tmp_path):
        content = pickle.dumps({"a": 1})
        spec = remote(web, "model.pkl", content, allow_pickle=True)
        assert fetch(spec, tmp_path).format == "sklearn"
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(SourceSpec.parse(spec.model_dump(exclude={"allow_pickle"})), tmp_path)

    def test_a_file_of_this_machine_is_trusted(self, tmp_path):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps({}))
        assert fetch(SourceSpec(file="m.pkl"), tmp_path).format == "sklearn"

    def test_one_in_an_archive(self, web, tmp_path):
        content = tar({"config.json": b"{}", "model.safetensors": b"w", "inner.bin": pickle.dumps({})})
        with pytest.raises(SourceError, match=r"inner.bin\): is a pickle"):
            fetch(remote(web, "m.tgz", content, format="huggingface"), tmp_path)
        only = remote(web, "m.tgz", content, format="huggingface", include=["*.json", "*.safetensors"])
        assert set(fetch(only, tmp_path).files) == {"config.json", "model.safetensors"}

    @pytest.mark.parametrize(
        "content",
        [
            *(ONNX, XGBOOST, LIGHTGBM, b"", b"\x80", b"\x08\x08"),
            *(json.dumps({"a": 1}).encode(), (8).to_bytes(8, "little") + b"{}"),
            *(b"cat\ndog\ncow\ncab\nbird\nRat\n", b"call\nme\n(and so on)\n", b"I1\n.", b"c\n\n(", b"(ii\nj=1\nk\n"),
            *(packed(ONNX), packed(LIGHTGBM), packed(ONNX)[:-20], b"\x1f\x8b", packed(b"")),
        ],
        ids=lambda value: value[:8].hex(),
    )
    def test_data_is_no_pickle(self, tmp_path, content):
        (tmp_path / "m").write_bytes(content)
        assert pickled(tmp_path / "m") is None

    def test_plain_arrays_are_no_pickle(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
        np.savez(tmp_path / "b.npz", x=np.zeros(3), y=np.array(["text"]))
        assert [pickled(tmp_path / name) for name in ("a.npy", "b.npz")] == [None, None]
