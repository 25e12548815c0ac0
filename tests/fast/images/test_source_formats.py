"""What a source's files are: by their names, by their content, and as declared."""

import re
import zipfile

import numpy as np
import onnx
import pytest
from e2e_small_model import classifier
from source_archives import LIGHTGBM, ONNX, XGBOOST

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.digests import folder_digest
from gpuserve_images.sources.formats import of_file
from gpuserve_images.sources.pickles import pickled
from gpuserve_images.sources.resolving import fetch, format_of, identity
from gpuserve_images.sources.spec import SourceSpec

HEX = "a" * 64
COMMIT = "b" * 40


pytestmark = pytest.mark.usefixtures("own_cache")


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

    def test_several_folders_with_models_are_a_question(self, tmp_path):
        for revision in ("aaa", "bbb"):
            folder = tmp_path / "cache" / "snapshots" / revision
            (folder / "1_Pooling").mkdir(parents=True)
            for name in ("config.json", "1_Pooling/config.json"):
                (folder / name).write_text("{}")
            (folder / "model.safetensors").write_bytes(revision.encode())
        for declared in ({}, {"format": "huggingface"}):
            source = SourceSpec.parse({"file": "cache", **declared})
            with pytest.raises(
                SourceError, match=r"holds 2 huggingface models, in the folders snapshots/aaa, snapshots/bbb.*`path:`"
            ):
                identity(source, tmp_path)
        files = fetch(SourceSpec(file="cache", path="snapshots/bbb"), tmp_path)
        assert (files.format, files.files["model.safetensors"].read_bytes()) == ("huggingface", b"bbb")

    @pytest.mark.parametrize("declared", [{"format": "tensorflow"}, {}])
    def test_several_saved_models_are_a_question(self, tmp_path, declared):
        for version in ("1", "2"):
            (tmp_path / "saved" / version).mkdir(parents=True)
            (tmp_path / "saved" / version / "saved_model.pb").write_bytes(b"\x08\x01")
        with pytest.raises(SourceError, match=r"holds 2 tensorflow models, in the folders 1, 2. Fix: Name one with `path:`"):
            identity(SourceSpec.parse({"file": "saved", **declared}), tmp_path)

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

    @pytest.mark.parametrize(
        ("name", "source"),
        [
            ("m/model.onnx", {"file": "m/model.onnx"}),
            ("m/model.onnx", {"file": "m"}),
            ("m/forest.joblib", {"file": "m/forest.joblib"}),
            ("m/trees.txt", {"file": "m/trees.txt"}),
            ("m/trees.txt", {"file": "m/trees.txt", "format": "lightgbm"}),
            ("m/saved_model.pb", {"file": "m"}),
        ],
    )
    def test_a_pointer_of_git_lfs_is_no_model(self, tmp_path, name, source):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n")
        words = rf"source.file \({name.removeprefix('m/')}\): is no more than a pointer of Git LFS. Fix: Run `git lfs pull`"
        with pytest.raises(SourceError, match=words):
            identity(SourceSpec.parse(source), tmp_path)

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
