"""Samples: what `encode` and archives may hold, and how batches are made of them."""

import os

import numpy as np
import pytest
from e2e_graphs import random_samples, written
from e2e_small_model import FEATURES, classifier

from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature
from gpuserve_images.samples.codec import Codec, CodecError, batches, encode_all, load_codec
from gpuserve_images.samples.picking import pick
from gpuserve_images.samples.spec import SampleSpec


@pytest.fixture
def source(tmp_path):
    return written(classifier(), tmp_path)


@pytest.fixture
def samples():
    return random_samples(21)


class TestSamplesToTensors:
    def codec(self, make):
        return Codec(make, str)

    def test_batches_hold_every_sample_in_order(self, samples):
        joined = np.concatenate([batch["x"] for batch in batches(samples, 8)])
        assert np.array_equal(joined[: len(samples)], np.concatenate([sample["x"] for sample in samples]))
        assert [len(batch["x"]) for batch in batches(samples, 8)] == [8, 8, 8]
        assert [len(batch["x"]) for batch in batches(samples[:3], 8)] == [8]

    def test_files_that_the_model_cannot_read_are_left_out(self, source, tmp_path):
        files = [tmp_path / str(index) for index in range(10)]

        def encode(path):
            if path.name == "4":
                raise ValueError("too short")
            return {"x": np.zeros((1, FEATURES), np.float32)}

        encoded = encode_all(self.codec(encode), files, read_signature(source), "verify.inputs")
        assert [file.name for file in encoded.files] == list("012356789")

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"y": np.zeros((1, FEATURES), np.float32)}, "other inputs than the model has"),
            ({"x": np.zeros((1, FEATURES), np.float64)}, r"another type or shape.*FP32 of shape \[-1, 8\]"),
            ({"x": np.zeros((FEATURES,), np.float32)}, r"float32 \[8\]"),
            ({"x": np.zeros((1, FEATURES + 1), np.float32)}, r"float32 \[1, 9\]"),
        ],
    )
    def test_tensors_that_do_not_fit_are_refused(self, source, tmp_path, tensors, words):
        with pytest.raises(CodecError, match=words):
            encode_all(self.codec(lambda _: tensors), [tmp_path / "a"] * 8, read_signature(source), "verify.inputs")

    def test_too_few_samples_judge_nothing(self, source, tmp_path):
        def encode(_):
            raise ValueError("is no tensor")

        with pytest.raises(CodecError, match=r"verify.inputs: has 0 usable samples of 9 files; a: is no tensor"):
            encode_all(self.codec(encode), [tmp_path / "a"] * 9, read_signature(source), "verify.inputs")

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("return {}['x']", r"encode\(0\): fails: KeyError: 'x'\. Fix: Correct the function; .* raise ValueError"),
            ("open('/nowhere')", r"encode\(0\): fails: FileNotFoundError: .*/nowhere"),
            ("import sys; sys.exit(3)", r"encode\(0\): fails: SystemExit: 3"),
            ("return None", r"encode\(0\) \(NoneType\): returns no tensors by input name\. Fix: Return a dict"),
            ("return [1.0]", r"encode\(0\) \(list\): returns no tensors by input name"),
            ("return {'x': [1.0] * 8}", r"encode\(0\)\['x'\] \(list\): is no NumPy array\. Fix: Return NumPy arrays"),
        ],
    )
    def test_what_an_encode_does_wrong_is_said_with_the_file(self, source, tmp_path, body, words):
        (tmp_path / "io.py").write_text(f"def encode(path):\n    {body}\ndef decode(outputs):\n    return outputs['none']\n")
        codec = load_codec("io.py", tmp_path)
        with pytest.raises(CodecError, match=rf"io\.py: {words}"):
            encode_all(codec, [tmp_path / "0"] * 8, read_signature(source), "verify.inputs")
        with pytest.raises(CodecError, match=r"io\.py: decode: fails: KeyError: 'none'\. Fix: .*the outputs \['scores'\]"):
            codec.decoded({"scores": np.zeros(1)})

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("raise SystemExit(3)", "fails when it is loaded: SystemExit: 3"),
            ("import no_such_module", "fails when it is loaded: ModuleNotFoundError"),
            ("def encode(path): ...", "defines no function `decode`"),
            (None, "does not exist"),
        ],
    )
    def test_a_broken_io_file_is_named(self, tmp_path, text, words):
        if text is not None:
            (tmp_path / "io.py").write_text(text)
        with pytest.raises(CodecError, match=words):
            load_codec("io.py", tmp_path)


class TestArchives:
    @pytest.fixture
    def folder(self, tmp_path):
        for number in range(10):
            np.savez(tmp_path / f"{number}.npz", x=np.zeros((1, FEATURES), np.float32))
        return tmp_path

    def encoded(self, folder, source):
        files = sorted(path for path in folder.iterdir() if path.suffix in {".npz", ".npy"})
        return encode_all(load_codec(None, folder), files, read_signature(source), "verify.inputs").files

    def test_what_is_no_archive_or_half_of_one_is_left_out(self, folder, source):
        np.save(folder / "a.npy", np.zeros((1, FEATURES), np.float32))
        whole = (folder / "0.npz").read_bytes()
        (folder / "0.npz").write_bytes(whole[: len(whole) // 2])
        (folder / "1.npz").write_bytes(b"")
        assert [file.name for file in self.encoded(folder, source)] == [f"{number}.npz" for number in range(2, 10)]

    def test_damaged_content_is_left_out(self, tmp_path, source):
        np.savez_compressed(tmp_path / "0.npz", x=np.random.default_rng(0).normal(size=(1, FEATURES)).astype(np.float32))
        content = bytearray((tmp_path / "0.npz").read_bytes())
        content[60:90] = bytes(30)
        (tmp_path / "0.npz").write_bytes(content)
        with pytest.raises(
            CodecError, match=r"0 usable samples of 1 files; 0.npz: cannot be read, perhaps it was copied in part"
        ):
            self.encoded(tmp_path, source)

    def test_names_that_are_no_text_are_told_by_their_bytes(self, tmp_path, source):
        """Files of another machine are called as they were there, in Latin-1, say."""
        folder = tmp_path / "samples"
        folder.mkdir()
        for number in range(10):
            np.savez(tmp_path / "0.npz", x=np.full((1, FEATURES), number, np.float32))
            (tmp_path / "0.npz").rename(folder / os.fsdecode(b"gr\xfc%d.npz" % number))
        files = pick([SampleSpec(folder="samples")], tmp_path, "verify.inputs")
        names = encode_all(load_codec(None, tmp_path), files, read_signature(source), "verify.inputs").names
        assert sorted(names) == [rf"gr\xfc{number}.npz" for number in range(10)]

    def test_several_rows_are_not_one_request(self, folder, source):
        np.savez(folder / "0.npz", x=np.zeros((4, FEATURES), np.float32))
        with pytest.raises(CodecError, match=r"float32 \[4, 8\].*a request has a batch of 1"):
            self.encoded(folder, source)

    TEXT = Signature(inputs=(TensorSpec(name="s", dtype="BYTES", shape=(-1, 1)),), outputs=(), opset=17)

    @pytest.mark.parametrize("kind", ["U", "S"])
    def test_text_of_archives_is_text_for_the_model(self, tmp_path, kind):
        text = np.array([["Grüße"]])
        np.savez(tmp_path / "0.npz", s=text if kind == "U" else np.char.encode(text, "utf-8"))
        (tensors,) = encode_all(load_codec(None, tmp_path), [tmp_path / "0.npz"], self.TEXT, "verify.inputs").tensors
        assert (tensors["s"].dtype, tensors["s"].tolist()) == (np.dtype(object), [["Grüße"]])

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (np.array([[b"\xff"]]), r"0\.npz: 'utf-8' codec can't decode"),
            (np.array([["a"]], dtype=object), r"0\.npz: holds objects, which are not loaded; save text as NumPy's own"),
        ],
    )
    def test_text_that_is_none_is_refused(self, tmp_path, value, words):
        np.savez(tmp_path / "0.npz", s=value)
        with pytest.raises(CodecError, match=words):
            encode_all(load_codec(None, tmp_path), [tmp_path / "0.npz"], self.TEXT, "verify.inputs")

    @pytest.mark.parametrize(("kind", "text"), [(bytes, b"Gr\xc3\xbc\xc3\x9fe"), (str, "Grüße"), (np.str_, np.str_("Grüße"))])
    def test_text_of_an_encode_is_text_for_the_model(self, tmp_path, kind, text):
        """As Triton's own clients send it, too: bytes among objects."""
        array = np.empty((1, 1), dtype=object)
        array[0, 0] = text
        assert isinstance(array[0, 0], kind)
        (tensors,) = encode_all(Codec(lambda _: {"s": array}, str), [tmp_path / "a"], self.TEXT, "verify.inputs").tensors
        assert (tensors["s"].dtype, tensors["s"].tolist()) == (np.dtype(object), [["Grüße"]])

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (None, r"encode\(a\)\['s'\] \(NoneType\): holds what is no text. Fix: Return str or bytes"),
            (3, r"\(int\): holds what is no text"),
            (b"\xff", "0 usable samples of 1 files; a: 'utf-8' codec can't decode"),
        ],
    )
    def test_objects_that_are_no_text_are_refused(self, tmp_path, value, words):
        codec = Codec(lambda _: {"s": np.array([[value]], dtype=object)}, str)
        with pytest.raises(CodecError, match=words):
            encode_all(codec, [tmp_path / "a"], self.TEXT, "verify.inputs")

    def test_other_files_need_a_codec(self, tmp_path, source):
        (tmp_path / "a.json").write_text('{"x": [1]}')
        words = r"0 usable samples of 1 files; a\.json: is no \.npz archive of tensors by input name\. Fix: .* need `io:`, a Python file"
        with pytest.raises(CodecError, match=words):
            encode_all(load_codec(None, tmp_path), [tmp_path / "a.json"], read_signature(source), "verify.inputs")
