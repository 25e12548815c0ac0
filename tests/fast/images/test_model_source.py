"""A model file that is missing, empty, truncated, foreign or incomplete gives a sentence, never a stack of parser errors."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_small_model import classifier, write_model_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import check, external_files, load
from gpuserve_images.onnx_model.operators import require_operators
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.samples.picking import MAX_SAMPLE_BYTES, pick, sample_set
from gpuserve_images.samples.spec import SampleSpec
from gpuserve_images.sources.packages import package_folder
from gpuserve_images.sources.resolving import resolve
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.spec import load_model

WHOLE = classifier().SerializeToString()
FILE = SourceSpec(file="model.onnx")


def refusal(folder, content: bytes) -> str:
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        resolve(FILE, folder)
    return str(caught.value)


def test_a_whole_model_is_accepted(tmp_path):
    (tmp_path / "model.onnx").write_bytes(WHOLE)
    source = resolve(FILE, tmp_path)
    check(source.path)
    assert source.record.outputs == {"model.onnx": source.sha256}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (WHOLE[:-1], "truncated ONNX file"),
        (WHOLE[: len(WHOLE) // 2], "truncated ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not an ONNX file"),
        (b"PK\x03\x04" + bytes(100), "is not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no more than a pointer of Git LFS"),
        (b"<html><body>404</body></html>", "is not an ONNX file"),
        (b"\x08\x08", "holds no graph"),
    ],
    ids=["empty", "last byte", "half", "png", "zip", "lfs pointer", "html", "header"],
)
def test_a_file_that_is_no_whole_model_says_which(tmp_path, content, words):
    message = refusal(tmp_path, content)
    assert "model.onnx" in message
    assert words in message


def test_an_output_that_is_there_twice_is_named(tmp_path):
    model = classifier()
    model.graph.output.append(model.graph.output[0])
    assert "names output scores more than once" in refusal(tmp_path, model.SerializeToString())


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(0, len(WHOLE) - 1))
def test_no_cut_of_a_model_passes_for_a_model(tmp_path_factory, cut):
    refusal(tmp_path_factory.mktemp("cut"), WHOLE[:cut])


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=300))
def test_no_random_bytes_pass_for_a_model(tmp_path_factory, content):
    refusal(tmp_path_factory.mktemp("random"), content)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"file": "absent.onnx"}, "source.file.*absent.onnx.*does not exist"),
        ({"file": "."}, "holds no files"),
        ({"package": "no_such_package", "path": "a"}, "source.package.*no_such_package.*not an installed"),
        ({"package": "not a name", "path": "a"}, "not an installed"),
        ({"package": "six_or_any_module", "path": "a"}, "not an installed"),
        ({"package": "magika", "path": "models/none.onnx"}, "source.path.*models/none.onnx.*does not exist"),
    ],
)
def test_a_source_that_is_not_there_names_field_value_and_place(tmp_path, source, words):
    with pytest.raises(SourceError, match=words):
        resolve(SourceSpec.parse(source), tmp_path)


def test_an_invalid_graph_is_refused_by_onnx_itself(tmp_path):
    model = classifier()
    model.graph.node[0].input[0] = "nobody"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SourceError, match=r"not a valid ONNX model.*nobody"):
        check(resolve(FILE, tmp_path).path)


def outside(model: onnx.ModelProto, folder: Path) -> bytes:
    """Return a model's file without its weights, so that every byte of it says something."""
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return (folder / "m.onnx").read_bytes()


@pytest.mark.filterwarnings("ignore:Ignoring unknown external data")
@pytest.mark.parametrize("kind", ["weights inside", "weights outside", "magika"])
def test_changed_bytes_give_nothing_but_a_sentence(tmp_path, kind):
    real = (
        onnx.load(package_folder("magika", "source") / "models/standard_v3_3/model.onnx") if kind == "magika" else classifier()
    )
    whole = WHOLE if kind == "weights inside" else outside(real, tmp_path)
    chance = np.random.default_rng(4)
    refused = 0
    path = tmp_path / "model.onnx"
    for _ in range(150):
        content = bytearray(whole)
        for place in chance.integers(0, len(content), chance.integers(1, 4)):
            content[place] = chance.integers(0, 256)
        path.write_bytes(content)
        for read in (lambda _: resolve(FILE, tmp_path), check, read_signature, require_operators):
            try:
                read(path)
            except GpuserveError:
                refused += 1
    assert refused, "some of the changes do harm"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((b"first", b"f\xffrst"), r"damaged ONNX file: graph.node\[0\].name is not text"),
        ((b"MatMul", b"Mat\x80ul"), r"damaged ONNX file: graph.node\[0\].op_type is not text"),
        ((b"batch", b"b\xfftch"), r"damaged ONNX file: graph.input\[0\].type.tensor_type.shape.dim\[0\].dim_param is not text"),
    ],
)
def test_bytes_in_place_of_text_are_refused_by_their_field(tmp_path, change, words):
    (tmp_path / "model.onnx").write_bytes(WHOLE.replace(*change))
    with pytest.raises(SourceError, match=words):
        resolve(FILE, tmp_path)


def test_a_remark_may_be_in_the_letters_of_an_old_machine(tmp_path):
    model = classifier()
    model.doc_string = "gruen"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString().replace(b"gruen", b"gr\xfcn "))
    check(resolve(FILE, tmp_path).path)


def move_weights(folder: Path, location: str) -> None:
    """Have a model say that its first tensor is in another file."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    (folder / "model.onnx").write_bytes(model.SerializeToString())


class TestExternalData:
    @pytest.fixture
    def folder(self, tmp_path):
        onnx.save(classifier(), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        return tmp_path

    def test_it_is_part_of_the_source(self, folder):
        assert [file.name for file in resolve(FILE, folder).external] == ["weights.bin"]

    def test_missing(self, folder):
        (folder / "weights.bin").unlink()
        with pytest.raises(SourceError, match=r"tensor w1 \(weights.bin\): keeps its weights in a file that is missing"):
            resolve(FILE, folder)

    def test_truncated(self, folder):
        weights = folder / "weights.bin"
        weights.write_bytes(weights.read_bytes()[:-4])
        with pytest.raises(SourceError, match=r"needs .* bytes of .*weights.bin, which has"):
            resolve(FILE, folder)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("offset", "many", "damaged ONNX file: the place of its weights is no place"),
            ("length", "-1", "damaged ONNX file: the place of its weights is no place"),
            ("location", "a\0b", "damaged ONNX file: the name of its weights' file is no name"),
            ("location", "a" * 300, "damaged ONNX file: the name of its weights' file is no name"),
        ],
    )
    def test_impossible_places(self, folder, key, value, words):
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        if key == "offset":
            model.graph.initializer[0].external_data.add(key=key, value=value)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(SourceError, match=words):
            resolve(FILE, folder)

    @pytest.mark.parametrize("location", ["../secrets", "/etc/passwd", "sub/../../secrets", "etc/../weights.bin"])
    def test_outside_of_the_folder(self, folder, location):
        (folder / "etc").symlink_to("/etc")
        move_weights(folder, location)
        with pytest.raises(SourceError, match="outside of the model's folder"):
            resolve(FILE, folder)

    def test_a_link_out_of_the_folder_as_in_the_cache_of_hugging_face(self, folder):
        (folder / "blobs").mkdir()
        (folder / "weights.bin").rename(folder / "blobs" / "3f2a")
        (folder / "snapshot").mkdir()
        (folder / "model.onnx").rename(folder / "snapshot" / "model.onnx")
        (folder / "snapshot" / "weights.bin").symlink_to("../blobs/3f2a")
        with pytest.raises(SourceError, match=r"a link out of the model's folder, to .*blobs/3f2a.*Fix: .*cp -rL"):
            resolve(FILE, folder / "snapshot")

    @pytest.mark.parametrize("location", ["./weights.bin", "sub/../weights.bin", "..weights", "linked"])
    def test_another_way_to_write_its_place(self, folder, location):
        (folder / "..weights").hardlink_to(folder / "weights.bin")
        (folder / "linked").symlink_to("weights.bin")
        move_weights(folder, location)
        (folder.parent / f"{folder.name}-link").symlink_to(folder)
        for place in (folder, folder.parent / f"{folder.name}-link"):
            found = list(external_files(load(place / "model.onnx"), place / "model.onnx"))
            assert {file.parent for file in found} == {place}


class TestSamples:
    @pytest.fixture
    def folder(self, tmp_path):
        return write_model_folder(tmp_path / "model").parent

    def test_no_file_calibrates_and_verifies(self, folder):
        chosen = sample_set(load_model(folder / "small.yaml"), "int8", folder)
        hashes = chosen.hashes()
        assert len(chosen.verify) + len(chosen.calibrate) == 96
        assert chosen.calibrate
        assert not set(hashes["verify"]) & set(hashes["calibrate"])

    @pytest.mark.parametrize("end", ["00", "3f", "40", "ff"])
    def test_few_files_serve_both_uses(self, folder, end):
        """Whatever their digests are: of eight files one in ten times all judge."""
        for file in (folder / "samples").iterdir():
            file.unlink()
        digests = set[str]()
        number = 0
        while len(digests) < 2:
            content = f"{number}".encode()
            number += 1
            if (digest := sha256(content).hexdigest()).endswith(end):
                digests.add(digest)
                (folder / "samples" / f"{number}.npz").write_bytes(content)
        hashes = sample_set(load_model(folder / "small.yaml"), "int8", folder).hashes()
        assert (hashes["calibrate"], hashes["verify"]) == ([min(digests)], [max(digests)])

    def test_one_file_cannot_serve_both_uses(self, folder):
        first, *others = (folder / "samples").iterdir()
        for file in others:
            file.unlink()
        with pytest.raises(SourceError, match=r"leaves no file for (calibration|verification) once none is used for both"):
            sample_set(load_model(folder / "small.yaml"), "int8", folder)
        assert first.exists()

    def test_a_copy_is_the_same_sample(self, folder):
        first = next((folder / "samples").iterdir())
        (folder / "samples" / "copy.npz").write_bytes(first.read_bytes())
        assert len(sample_set(load_model(folder / "small.yaml"), "fp32", folder).verify) == 96

    def test_the_choice_does_not_depend_on_where_the_folder_is(self, folder, tmp_path):
        other = write_model_folder(tmp_path / "other").parent
        spec = SampleSpec(folder="samples", limit=10)
        assert [f.name for f in pick([spec], folder, "f")] == [f.name for f in pick([spec], other, "f")]

    def test_empty_huge_and_linked_files_are_no_samples(self, folder):
        samples = folder / "samples"
        (samples / "empty.npz").touch()
        (samples / "link.npz").symlink_to(samples / "0.npz")
        with (samples / "huge.npz").open("wb") as stream:
            stream.truncate(MAX_SAMPLE_BYTES + 1)
        assert len(pick([SampleSpec(folder="samples")], folder, "f")) == 96

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ({"folder": "nowhere"}, r"verify.inputs\[0\].folder \(nowhere\): is not a folder"),
            ({"folder": "samples", "glob": "*.jpg"}, r"verify.inputs\[0\].glob \(\*.jpg\): matches no file"),
            ({"package": "no_such_package"}, r"verify.inputs\[0\].package \(no_such_package\)"),
        ],
    )
    def test_none_is_an_error(self, folder, spec, words):
        with pytest.raises(SourceError, match=words):
            pick([SampleSpec.parse(spec)], folder, "verify.inputs")
