"""What a source may say, which files it means, and what is refused before anything is loaded."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_small_model import classifier
from source_archives import LIGHTGBM, ONNX, XGBOOST

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.served import LayoutError, ModelFiles
from gpuserve_images.sources.addresses import shown
from gpuserve_images.sources.digests import folder_digest, tree_digest
from gpuserve_images.sources.formats import of_file
from gpuserve_images.sources.pickles import pickled
from gpuserve_images.sources.resolving import fetch, format_of, identity
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.spec import ModelSpec

HEX = "a" * 64
COMMIT = "b" * 40
KEPT_BY_TOOLS = (".git/config", "sub/.git/HEAD", ".cache/huggingface/token", "sub/.cache/huggingface/download/x.metadata")


pytestmark = pytest.mark.usefixtures("own_cache")


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
        for name in (*KEPT_BY_TOOLS, ".cache/other", "sub/huggingface/x", ".gitignore", "huggingface/x"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        document = (Path(__file__).parents[3] / "docs" / "model-images.md").read_text()
        line = re.search(r"^```sh\n(find .*?)^```", document, flags=re.MULTILINE | re.DOTALL)[1]
        said = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True)
        assert folder_digest(folder) == said.stdout.split()[0]

    def test_what_git_and_hugging_face_keep_beside_a_model_is_no_part_of_it(self, folder, tmp_path):
        (folder / "saved_model.pb").write_bytes(b"\x08\x01")
        before = fetch(SourceSpec(file="model"), tmp_path)
        names = set(before.files)
        for name in KEPT_BY_TOOLS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("hidden-word")
        (folder / ".git" / "link").symlink_to("/etc")
        after = fetch(SourceSpec(file="model"), tmp_path)
        assert (after.sha256, set(after.files)) == (before.sha256, names)
        assert set(ModelFiles.of(folder).files) == names

    def test_a_folder_with_nothing_else_is_empty(self, tmp_path):
        for name in KEPT_BY_TOOLS:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        with pytest.raises(SourceError, match="holds no files"):
            folder_digest(tmp_path)
        with pytest.raises(LayoutError, match="holds no files"):
            ModelFiles.of(tmp_path)

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

    @pytest.mark.parametrize("source", [{"file": "snap/model.onnx"}, {"file": "snap", "path": "model.onnx"}, {"file": "snap"}])
    def test_a_link_keeps_its_name(self, tmp_path, source):
        """As a snapshot of Hugging Face's cache, whose files are links to blobs that are named by their digests."""
        (tmp_path / "blobs").mkdir()
        (tmp_path / "snap").mkdir()
        (tmp_path / "blobs" / "3f2a").write_bytes(ONNX)
        (tmp_path / "snap" / "model.onnx").symlink_to("../blobs/3f2a")
        found = fetch(SourceSpec.parse(source), tmp_path)
        assert (found.format, set(found.files)) == ("onnx", {"model.onnx"})
        (tmp_path / "plain.onnx").write_bytes(ONNX)
        assert found.sha256 == fetch(SourceSpec(file="plain.onnx"), tmp_path).sha256

    def test_a_link_to_a_folder_elsewhere_is_not_followed(self, folder, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "m.onnx").write_bytes(ONNX)
        (folder / "linked").symlink_to("../elsewhere")
        for path in ("linked/m.onnx", "linked"):
            with pytest.raises(SourceError, match=r"leaves the folder that `source.file` names"):
                fetch(SourceSpec(file="model", path=path), tmp_path)

    def test_a_file_beside_a_linked_folder_is_found_as_the_system_finds_it(self, tmp_path):
        (tmp_path / "releases" / "5").mkdir(parents=True)
        (tmp_path / "current").symlink_to("releases/5")
        (tmp_path / "releases" / "m.onnx").write_bytes(ONNX)
        assert fetch(SourceSpec(file="../m.onnx"), tmp_path / "current").entry == tmp_path / "releases" / "m.onnx"

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
