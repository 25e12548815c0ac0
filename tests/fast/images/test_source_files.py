"""What a source may say, which files it means, and what is refused before anything is loaded."""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_small_model import classifier
from faulty_http import FaultyServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import SourceError
from gpuserve_images.sources import archives, unpacking
from gpuserve_images.sources.addresses import shown
from gpuserve_images.sources.cache import SourceCache
from gpuserve_images.sources.digests import folder_digest, tree_digest
from gpuserve_images.sources.formats import of_file
from gpuserve_images.sources.pickles import pickled
from gpuserve_images.sources.resolving import fetch, format_of, identity
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.spec import ModelSpec

ONNX = classifier().SerializeToString()
HEX = "a" * 64
COMMIT = "b" * 40
LIGHTGBM = b"tree\nversion=v4\nnum_class=1\n"
XGBOOST = b'{"learner":{"attributes":{}},"version":[3,2,0]}'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


def remote(server: FaultyServer, name: str, content: bytes, **more: object) -> SourceSpec:
    return SourceSpec.parse({"url": server.put(name, content), "sha256": hashlib.sha256(content).hexdigest(), **more})


class TestSpec:
    @pytest.mark.parametrize(
        ("url", "more"),
        [
            ("https://host.example/a/model.onnx", {"sha256": HEX}),
            ("https://host.example:8443/model.onnx?version=3", {"sha256": HEX}),
            ("http://localhost:9000/model.onnx", {"sha256": HEX}),
            ("http://127.0.0.1:9000/model.onnx", {"sha256": HEX}),
            ("s3://bucket/folder/model.onnx", {"sha256": HEX}),
            ("gs://bucket/folder/", {"sha256": HEX, "format": "huggingface"}),
            (f"hf://owner/name@{COMMIT}", {"include": ["*.json", "*.safetensors"]}),
            (f"hf://owner/name@{COMMIT}/onnx/model.onnx", {}),
            (f"oci://localhost:5000/models/filetype@sha256:{HEX}", {"format": "onnx"}),
            (f"oci://ghcr.io/models/filetype:1.2@sha256:{HEX}", {"format": "onnx"}),
            ("pvc://claim/models/model.onnx", {"sha256": HEX}),
        ],
    )
    def test_addresses(self, url, more):
        assert SourceSpec.parse({"url": url, **more}).address.text == url

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ({"url": "https://host.example/model.onnx"}, "is not pinned.*add `sha256:`.*gpuserve images pin"),
            ({"url": "s3://bucket/model.onnx"}, "is not pinned"),
            ({"url": "gs://bucket/model.onnx"}, "is not pinned"),
            ({"url": "pvc://claim/model.onnx"}, "is not pinned"),
            ({"url": "hf://owner/name"}, "is not pinned.*40 hex digits"),
            ({"url": "hf://owner/name@main"}, "is not pinned: 'main' changes"),
            ({"url": f"hf://{'c' * 40}@{COMMIT}"}, "names no repository"),
            ({"url": f"hf://owner/name@{COMMIT}/../../x"}, "names no repository"),
            ({"url": "oci://localhost:5000/models/filetype:1"}, "is not pinned.*@sha256"),
            ({"url": "ftp://host.example/model.onnx", "sha256": HEX}, "no scheme.*https://"),
            ({"url": "model.onnx", "sha256": HEX}, "no scheme"),
            ({"url": "http://host.example/model.onnx", "sha256": HEX}, "without encryption"),
            ({"url": "https://host.example/", "sha256": HEX}, "names no file"),
            ({"url": "https://host.example/a b.onnx", "sha256": HEX}, "spaces"),
            ({"url": "s3://Bucket/model.onnx", "sha256": HEX}, "names no bucket"),
            ({"url": "s3://bucket", "sha256": HEX}, "names no object"),
            ({"url": "s3://bucket/../other/model.onnx", "sha256": HEX}, "names no object"),
            ({"url": "pvc://Claim_1/model.onnx", "sha256": HEX}, "names no PersistentVolumeClaim"),
            ({"url": "pvc://claim/../../etc/passwd", "sha256": HEX}, "names no file of claim"),
            ({"url": "pvc://claim/models", "sha256": HEX, "include": ["*.onnx"]}, "remove `include:`"),
            ({"url": "https://host.example/model.onnx", "sha256": "abc"}, "64 hex digits"),
            ({"url": "https://host.example/model.onnx", "sha256": HEX, "file": "a.onnx"}, "one of `file:`"),
            ({"url": "https://host.example/model.onnx", "sha256": HEX, "format": "caffe"}, "format"),
            ({"url": "https://host.example/m.zip", "sha256": HEX, "path": "../x"}, "leaves"),
            ({"file": "a.onnx", "allow_pickle": True}, "remove `allow_pickle:`"),
            ({"file": "a", "include": ["*.onnx"]}, "remove `include:`"),
        ],
    )
    def test_impossible_sources_say_what_to_write(self, source, words):
        with pytest.raises(SpecError, match=words):
            SourceSpec.parse(source)

    @pytest.mark.parametrize(
        "url",
        [
            "https://someone:hidden@host.example/model.onnx",
            "https://hidden@host.example/model.onnx",
            "https://host.example/model.onnx?X-Amz-Signature=hidden&X-Amz-Date=1",
            "https://host.example/model.onnx?sv=1&sig=hidden",
            "https://host.example/model.onnx?token=hidden",
        ],
    )
    def test_a_secret_in_an_address_is_refused_and_not_repeated(self, url):
        with pytest.raises(SpecError) as caught:
            SourceSpec.parse({"url": url, "sha256": HEX})
        assert "hidden" not in str(caught.value)
        assert "host.example/model.onnx" in str(caught.value)
        assert "hidden" not in shown(url)

    @pytest.mark.parametrize("name", ["my model", "Model", "a/b", "", "x" * 64, "../x"])
    def test_a_models_name_is_a_dns_label(self, name):
        with pytest.raises(SpecError, match="name"):
            ModelSpec.parse({"name": name, "source": {"file": "a.onnx"}, "builds": {"fp32": {"engine": "onnxruntime"}}})


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        place = tmp_path / "model"
        (place / "sub folder").mkdir(parents=True)
        (place / "b.txt").write_bytes(b"b")
        (place / "sub folder" / "ä.txt").write_bytes(b"a")
        (place / "Z").write_bytes(b"")
        return place

    def test_the_digest_is_what_coreutils_say(self, folder):
        line = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
        said = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True)
        assert folder_digest(folder) == said.stdout.split()[0]

    def test_names_and_contents_are_the_digest_and_times_are_not(self, folder):
        before = folder_digest(folder)
        os.utime(folder / "b.txt", (1, 1))
        (folder / "empty").mkdir()
        assert folder_digest(folder) == before
        (folder / "b.txt").rename(folder / "c.txt")
        assert folder_digest(folder) != before

    def test_a_link_to_a_file_is_that_file(self, folder, tmp_path):
        before = folder_digest(folder)
        (folder / "b.txt").rename(tmp_path / "elsewhere")
        (folder / "b.txt").symlink_to(tmp_path / "elsewhere")
        assert folder_digest(folder) == before

    @pytest.mark.parametrize("what", ["pipe", "broken link", "linked folder", "line break"])
    def test_what_no_model_holds(self, folder, what):
        odd = folder / ("a\nb" if what == "line break" else "odd")
        match what:
            case "pipe":
                os.mkfifo(odd)
            case "broken link":
                odd.symlink_to("none")
            case "linked folder":
                odd.symlink_to("/etc")
            case _:
                odd.touch()
        with pytest.raises(SourceError, match=r"(odd|a\\nb)"):
            folder_digest(folder)

    def test_a_declared_digest_of_a_local_folder_or_file_is_checked(self, folder, tmp_path):
        (folder / "m.onnx").write_bytes(ONNX)
        good = folder_digest(folder)
        assert fetch(SourceSpec(file="model", path="m.onnx", sha256=good), tmp_path).format == "onnx"
        for spec in (SourceSpec(file="model", path="m.onnx", sha256=HEX), SourceSpec(file="model/m.onnx", sha256=HEX)):
            with pytest.raises(SourceError, match=f"and {HEX} was declared"):
                identity(spec, tmp_path)


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("m.onnx", ONNX, "onnx"),
            ("m.json", XGBOOST, "xgboost"),
            ("m.ubj", b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "xgboost"),
            ("m.txt", LIGHTGBM, "lightgbm"),
            ("anything", LIGHTGBM, "lightgbm"),
            ("named.onnx", LIGHTGBM, "onnx"),
            ("m.joblib", b"\x78\x9c", "sklearn"),
            ("m.pt2", b"", "torch"),
            ("m.json", b'{"a": 1}', None),
            ("m.txt", b"text", None),
        ],
    )
    def test_of_files(self, tmp_path, name, content, expected):
        (tmp_path / name).write_bytes(content)
        assert of_file(tmp_path / name) == expected

    @pytest.mark.slow
    def test_a_real_booster_of_each_kind(self, tmp_path):
        xgboost = pytest.importorskip("xgboost")
        lightgbm = pytest.importorskip("lightgbm")
        data, labels = np.random.default_rng(0).random((40, 3)), np.arange(40) % 2
        booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(data, labels), 1)
        booster.save_model(tmp_path / "x.json")
        booster.save_model(tmp_path / "x.ubj")
        lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(data, labels), 1).save_model(tmp_path / "l.txt")
        found = {path.name: of_file(path) for path in tmp_path.iterdir() if path.is_file()}
        assert found == {"x.json": "xgboost", "x.ubj": "xgboost", "l.txt": "lightgbm"}
        assert not [path for path in tmp_path.iterdir() if path.is_file() and pickled(path)]

    def test_a_torch_program_by_its_content(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "program", "w") as archive:
            archive.writestr("program/archive_format", "pt2")
            archive.writestr("program/data/sample_inputs/model.pt", b"")
        assert of_file(tmp_path / "program") == "torch"
        assert pickled(tmp_path / "program")

    def test_a_saved_model(self, tmp_path):
        folder = tmp_path / "saved" / "1"
        (folder / "variables").mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"\x08\x01")
        (folder / "variables" / "variables.index").write_bytes(b"x")
        files = fetch(SourceSpec(file="saved"), tmp_path)
        assert (files.format, files.entry) == ("tensorflow", folder)
        assert set(files.files) == {"saved_model.pb", "variables/variables.index"}
        assert files.sha256 == folder_digest(folder)

    def test_a_hugging_face_folder(self, tmp_path):
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf" / "config.json").write_text("{}")
        (tmp_path / "hf" / "model.safetensors").write_bytes(b"weights")
        assert fetch(SourceSpec(file="hf"), tmp_path).format == "huggingface"

    @pytest.mark.parametrize("declared", [{"format": "huggingface"}, {}])
    def test_a_hugging_face_folder_without_weights(self, tmp_path, declared):
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf" / "config.json").write_text("{}")
        source = SourceSpec.parse({"file": "hf", **declared})
        lacks = "lacks 2 parts: tokenizer is missing; weights are missing. Fix: Copy it beside config.json: tokenizer.json | "
        with pytest.raises(SourceError, match=re.escape(lacks)) as caught:
            identity(source, tmp_path)
        assert "config.json is missing" not in str(caught.value)
        assert str(tmp_path / "hf") in str(caught.value)
        (tmp_path / "hf" / "tokenizer.json").write_text("{}")
        with pytest.raises(SourceError, match="holds no whole huggingface model: weights are missing"):
            identity(source, tmp_path)

    def test_a_hugging_face_folder_without_its_config(self, tmp_path):
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf" / "model-00001-of-00003.safetensors").write_bytes(b"weights")
        with pytest.raises(SourceError, match="lacks 5 parts: config") as caught:
            identity(SourceSpec(file="hf", format="huggingface"), tmp_path)
        for name in ("model.safetensors.index.json", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"):
            assert f"{name} is missing" in str(caught.value)

    def test_a_folder_with_one_onnx_model_and_its_weights(self, tmp_path):
        (tmp_path / "m" / "deep").mkdir(parents=True)
        place = tmp_path / "m" / "deep" / "model.onnx"
        onnx.save(classifier(), place, save_as_external_data=True, location="weights.bin", size_threshold=0)
        files = fetch(SourceSpec(file="m"), tmp_path)
        assert (files.entry, files.root, set(files.files)) == (place, place.parent, {"model.onnx", "weights.bin"})
        before = identity(SourceSpec(file="m"), tmp_path)
        weights = place.parent / "weights.bin"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
        assert identity(SourceSpec(file="m"), tmp_path) != before

    def test_two_models_are_a_question(self, tmp_path):
        (tmp_path / "m").mkdir()
        for name in ("a.onnx", "b.onnx"):
            (tmp_path / "m" / name).write_bytes(ONNX)
        with pytest.raises(SourceError, match=r"holds 2 models: a.onnx, b.onnx.*`path:`"):
            identity(SourceSpec(file="m"), tmp_path)
        assert fetch(SourceSpec(file="m", path="b.onnx"), tmp_path).entry.name == "b.onnx"

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ({"url": "https://host.example/m.zip", "sha256": HEX}, "does not tell what the model is.*`format:`"),
            ({"url": f"oci://localhost:5000/m@sha256:{HEX}"}, "does not tell"),
            ({"url": "s3://bucket/model.json", "sha256": HEX}, "does not tell"),
        ],
    )
    def test_what_the_plan_cannot_know_must_be_said(self, tmp_path, source, words):
        with pytest.raises(SourceError, match=words):
            identity(SourceSpec.parse(source), tmp_path)

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            (f"hf://owner/name@{COMMIT}", "huggingface"),
            (f"hf://owner/name@{COMMIT}/onnx/model.onnx", "onnx"),
            (f"hf://owner/name@{COMMIT}/model.pt2", "torch"),
        ],
    )
    def test_of_addresses(self, tmp_path, url, expected):
        assert format_of(SourceSpec(url=url, allow_pickle=True), tmp_path) == expected

    def test_unknown(self, tmp_path):
        (tmp_path / "m.bin").write_bytes(b"?")
        with pytest.raises(SourceError, match=r"not a model file that is known.*`format:`"):
            identity(SourceSpec(file="m.bin"), tmp_path)

    @pytest.mark.parametrize("form", ["tensorflow", "huggingface"])
    def test_a_file_is_no_folder_format(self, tmp_path, form):
        (tmp_path / "m.onnx").write_bytes(ONNX)
        with pytest.raises(SourceError, match="is a file"):
            fetch(SourceSpec(file="m.onnx", format=form), tmp_path)
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "m.onnx").write_bytes(ONNX)
        with pytest.raises(SourceError, match=f"holds no (whole )?{form} model"):
            fetch(SourceSpec(file="empty", format=form), tmp_path)


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
    def test_by_content_whatever_they_are_called(self, server, claim, tmp_path, kind, form):
        mark = tmp_path / "ran"
        content = dangers(mark)[kind]
        for spec in (remote(server, "model.onnx", content, format=form), claim("model.onnx", content, format=form)):
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
    def test_by_name_before_the_download(self, server, claim, tmp_path, name):
        for spec in (remote(server, name, b"anything", format="onnx"), claim(name, b"anything", format="onnx")):
            for read in (fetch, identity):
                with pytest.raises(SourceError, match=r"is a pickle.*its name says so"):
                    read(spec, tmp_path)
        assert not server.asked

    @pytest.mark.parametrize("name", ["m.gz", "m", "m.onnx", "m.tar.gz"])
    def test_a_format_that_is_nothing_else_before_the_download(self, server, claim, tmp_path, name):
        # No code at the start: what comes later in a file is not looked at, so the format alone must be enough.
        content = gzip.compress(pickle.dumps(b"a" * 2**17 + b"more"))
        for spec in (remote(server, name, content, format="sklearn"), claim(name, content, format="sklearn")):
            for read in (fetch, identity):
                with pytest.raises(SourceError, match=r"\(sklearn\): is a pickle.*every model file of this format"):
                    read(spec, tmp_path)
            trusted = SourceSpec.parse({**spec.model_dump(exclude_none=True), "allow_pickle": True})
            if name != "m.tar.gz":
                assert fetch(trusted, tmp_path).format == "sklearn"
        assert len(server.asked) == (name != "m.tar.gz")

    @pytest.mark.parametrize("name", ["whole.zip/m.onnx", "whole/m.pt2", "whole/m.joblib.gz"])
    def test_one_in_a_folder_of_a_volume(self, claim, tmp_path, name):
        mark = tmp_path / "ran"
        content = pickle.dumps(Danger(mark), 0) if name.endswith("onnx") else b"anything"
        spec = claim(name, content, format="onnx")
        folder, _, file = name.partition("/")
        digest = tree_digest({file: spec.sha256})
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(SourceSpec(url=f"pvc://claim/{folder}", sha256=digest, format="onnx", path=file), tmp_path)

    def test_one_that_the_cache_has_from_where_it_was_allowed(self, server, tmp_path):
        fetch(remote(server, "m.pt2", b"anything", allow_pickle=True), tmp_path)
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(remote(server, "m.pt2", b"anything"), tmp_path)

    def test_leave(self, server, tmp_path):
        content = pickle.dumps({"a": 1})
        spec = remote(server, "model.pkl", content, allow_pickle=True)
        assert fetch(spec, tmp_path).format == "sklearn"
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(SourceSpec.parse(spec.model_dump(exclude={"allow_pickle"})), tmp_path)

    def test_a_file_of_this_machine_is_trusted(self, tmp_path):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps({}))
        assert fetch(SourceSpec(file="m.pkl"), tmp_path).format == "sklearn"

    def test_one_in_an_archive(self, server, tmp_path):
        content = tar({"config.json": b"{}", "model.safetensors": b"w", "inner.bin": pickle.dumps({})})
        with pytest.raises(SourceError, match=r"inner.bin\): is a pickle"):
            fetch(remote(server, "m.tgz", content, format="huggingface"), tmp_path)
        only = remote(server, "m.tgz", content, format="huggingface", include=["*.json", "*.safetensors"])
        assert set(fetch(only, tmp_path).files) == {"config.json", "model.safetensors"}

    @pytest.mark.parametrize(
        "content",
        [
            *(ONNX, XGBOOST, LIGHTGBM, b"", b"\x80", b"\x08\x08"),
            *(json.dumps({"a": 1}).encode(), (8).to_bytes(8, "little") + b"{}"),
            *(b"cat\ndog\ncow\ncab\nbird\nRat\n", b"call\nme\n(and so on)\n", b"I1\n.", b"c\n\n(", b"(ii\nj=1\nk\n"),
            *(gzip.compress(ONNX), gzip.compress(LIGHTGBM), gzip.compress(ONNX)[:-20], b"\x1f\x8b", gzip.compress(b"")),
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


def member(name: str, content: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar(files: dict[str, bytes], *others: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for info, content in [*(member(name, content) for name, content in files.items()), *others]:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(files: dict[str, bytes], *others: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info, content in others:
            archive.writestr(info, content)
    return packed.getvalue()


def zip_link(name: str, target: str, mode: int = stat.S_IFLNK) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = (mode | 0o644) << 16
    return info, target.encode()


LINK, HARD = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}


class TestArchives:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("m.tar.gz", tar({"./m/model.onnx": ONNX})),
            ("m.tgz", tar({"m/model.onnx": ONNX})),
            ("m.tar", tar({"model.onnx": ONNX}, mode="w")),
            ("m.zip", zipped({"m/model.onnx": ONNX})),
        ],
        ids=lambda value: value if isinstance(value, str) else "archive",
    )
    def test_of_one_model(self, server, tmp_path, name, content):
        spec = remote(server, name, content, format="onnx")
        files = fetch(spec, tmp_path)
        assert files.entry.read_bytes() == ONNX
        assert fetch(spec, tmp_path) == files
        assert len(server.asked) == 1
        (tmp_path / name).write_bytes(content)
        local = SourceSpec(file=name, format="onnx", sha256=spec.sha256)
        assert fetch(local, tmp_path).sha256 == files.sha256
        assert identity(local, tmp_path) == identity(spec, tmp_path)

    def test_of_weights_beside_a_model_and_links_inside(self, server, tmp_path):
        onnx.save(classifier(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        content = tar(
            {"m/m.onnx": (tmp_path / "m.onnx").read_bytes(), "blobs/w": (tmp_path / "w.bin").read_bytes()},
            member("m/w.bin", **LINK, linkname="../blobs/w"),
            member("m/again", **HARD, linkname="blobs/w"),
        )
        files = fetch(remote(server, "m.tgz", content, format="onnx", path="m/m.onnx"), tmp_path)
        assert set(files.files) == {"m.onnx", "w.bin"}
        assert not any(path.is_symlink() for path in files.root.rglob("*")), "what is unpacked holds no links"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (tar({"../evil": b"x"}), "path that leaves the archive"),
            (tar({"a/../../evil": b"x"}), "path that leaves the archive"),
            (tar({"/etc/evil": b"x"}), "path that leaves the archive"),
            (tar({"a\\..\\evil": b"x"}), "path that leaves the archive"),
            (tar({}, member("up", **LINK, linkname="../../etc/passwd")), "link that leaves the archive"),
            (tar({}, member("abs", **LINK, linkname="/etc/passwd")), "link that leaves the archive"),
            (tar({}, member("hard", **HARD, linkname="../../etc/passwd")), "leaves the archive"),
            (tar({}, member("hard", **HARD, linkname="/etc/passwd")), "leaves the archive"),
            (tar({"a": b"x"}, member("l", **LINK, linkname="folder")), "is no file of the archive"),
            (
                tar({}, member("d", **LINK, linkname="/etc"), member("d/evil", b"x")),
                "link that leaves the archive",
            ),
            (
                tar({"in": b"x"}, member("d", **LINK, linkname="in"), member("d/evil", b"x")),
                "a file and a folder of one name",
            ),
            (tar({}, member("dev", type=tarfile.CHRTYPE)), "device"),
            (tar({}, member("dev", type=tarfile.BLKTYPE)), "device"),
            (tar({}, member("pipe", type=tarfile.FIFOTYPE)), "pipe"),
            (tar({"a": b"x"}, member("a", b"y")), "two files of one name"),
            (tar({"a": b"x"}, member("a/b", b"y")), "a file and a folder of one name"),
            (zipped({"../evil": b"x"}), "path that leaves the archive"),
            (zipped({"/etc/evil": b"x"}), "path that leaves the archive"),
            (zipped({}, zip_link("up", "../../etc/passwd")), "link that leaves the archive"),
            (zipped({}, zip_link("dev", "", stat.S_IFCHR)), "device"),
            (tar({}), "holds no files"),
            (zipped({}), "holds no files"),
            (tar({"a": b"x" * 9999})[:-200], "damaged archive"),
            (zipped({"a": os.urandom(9999)})[:-200], "damaged archive"),
            (b"not an archive", "damaged archive"),
            (b"PK not an archive", "damaged archive"),
            (b"\x1f\x8b not an archive", "damaged archive"),
            (b"", "damaged archive"),
        ],
        ids=lambda value: value if isinstance(value, str) else "archive",
    )
    def test_hostile_and_damaged_ones(self, tmp_path, content, words):
        (tmp_path / "m.tar.gz").write_bytes(content)
        outside = set(tmp_path.parent.iterdir())
        if not content:
            words = "is empty"
        with pytest.raises(SourceError, match=words):
            fetch(SourceSpec(file="m.tar.gz", format="onnx"), tmp_path)
        assert set(tmp_path.parent.iterdir()) == outside
        assert not list(tmp_path.rglob("evil"))
        assert not list((tmp_path / "cache").rglob("complete.json"))

    def test_a_bomb_is_left_off_early(self, tmp_path, monkeypatch):
        monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
        zeros = bytes(16 * 2**20)
        for name, content in {"b.tgz": tar({"zeros": zeros}), "b.zip": zipped({"zeros": zeros})}.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(SourceError, match="more than 100 times its size"):
                fetch(SourceSpec(file=name, format="onnx"), tmp_path)
        unpacked = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
        assert unpacked < 6 * 2**20

    def test_a_bomb_in_a_skipped_or_absurd_header(self, tmp_path, monkeypatch):
        monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
        monkeypatch.setattr(archives, "_MAX_READ", 2**20)
        absurd = tarfile.TarInfo("pax")
        absurd.type, absurd.size = tarfile.XHDTYPE, 2**30
        (tmp_path / "a.tgz").write_bytes(gzip.compress(absurd.tobuf() + bytes(2**20)))
        with pytest.raises(SourceError, match=r"header of absurd size"):
            fetch(SourceSpec(file="a.tgz", format="onnx"), tmp_path)

    def test_too_many_entries(self, tmp_path, monkeypatch):
        monkeypatch.setattr(unpacking, "MAX_ENTRIES", 10)
        (tmp_path / "m.zip").write_bytes(zipped({str(number): b"" for number in range(11)}))
        with pytest.raises(SourceError, match="more than 10 entries"):
            fetch(SourceSpec(file="m.zip", format="onnx"), tmp_path)

    def test_an_encrypted_one(self, tmp_path):
        content = bytearray(zipped({"model.onnx": ONNX}))
        content[6] |= 1  # the flag in the file's own header
        content[content.rindex(b"PK\x01\x02") + 8] |= 1  # and in the directory's
        (tmp_path / "m.zip").write_bytes(bytes(content))
        with pytest.raises(SourceError, match="is encrypted"):
            fetch(SourceSpec(file="m.zip", format="onnx"), tmp_path)

    def test_a_path_that_is_not_in_it(self, tmp_path):
        (tmp_path / "m.zip").write_bytes(zipped({"model.onnx": ONNX}))
        with pytest.raises(SourceError, match=r"source.path \(other.onnx\): does not exist.*model.onnx"):
            fetch(SourceSpec(file="m.zip", path="other.onnx"), tmp_path)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    whole=st.sampled_from(
        [tar({"m/a": ONNX, "m/b": b"x"}, mode="w"), tar({"a": ONNX}), zipped({"m/a": ONNX, "b": b"y" * 600})]
    ),
    places=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(1, 4000),
)
def test_no_damage_to_an_archive_gives_anything_but_a_sentence(tmp_path_factory, whole, places, cut):
    content = bytearray(whole)
    for place, value in places:
        content[place % len(content)] = value
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "m.tar.gz").write_bytes(bytes(content[:cut]))
    store = SourceCache(folder / "cache")
    with suppress(SourceError):
        place = unpacking.unpacked(folder / "m.tar.gz", HEX, store, "source.file")
        assert all(path.is_relative_to(place) and not path.is_symlink() for path in place.rglob("*"))
    assert {path.name for path in folder.iterdir()} <= {"m.tar.gz", "cache"}


@pytest.mark.parametrize(
    ("module", "url"),
    [
        ("obstore", "s3://bucket/m.onnx"),
        ("obstore", "gs://bucket/m.onnx"),
        ("huggingface_hub", f"hf://owner/name@{COMMIT}/m.onnx"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, module, url):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceError, match=r"pip install 'gpuserve\[sources\]'"):
        fetch(SourceSpec(url=url, sha256=HEX), tmp_path)


def test_a_tree_digest_does_not_depend_on_order():
    assert tree_digest({"a": HEX, "b": "0" * 64}) == tree_digest({"b": "0" * 64, "a": HEX})
