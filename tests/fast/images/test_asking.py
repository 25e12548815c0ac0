"""How clients ask a model: files, requests and words, of a model alone and of an ensemble."""

import numpy as np
import onnx
import pytest
import yaml
from e2e_small_ensemble import ENSEMBLE, write_prepare
from e2e_small_model import FEATURES, write_model_folder
from onnx import TensorProto, helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.asking import Asking
from gpuserve_images.samples.codec import CodecError
from gpuserve_images.spec import load_model

CODEC = """
import numpy as np
import onnx

def encode(path):
    return {{"x": np.full((1, {width}), len(path.read_bytes()), np.float32)}}

def decode(outputs):
    return "{word} " + ",".join(f"{{name}}={{array.ravel()[0]:g}}" for name, array in sorted(outputs.items()))
"""


@pytest.fixture
def folder(tmp_path):
    folder = write_model_folder(tmp_path / "model", layout={"ensemble": ENSEMBLE}, io="small.py").parent
    write_prepare(folder, io="prepare.py")
    for name in ("small", "prepare"):
        (folder / f"{name}.py").write_text(CODEC.format(width=FEATURES, word=name))
    return folder


def asking(folder, **changes):
    path = folder / "small.yaml"
    if changes:
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return Asking(load_model(path), folder)


def ensemble(**changes):
    return {"ensemble": ENSEMBLE | changes}


def test_a_model_alone_is_asked_with_its_own_codec(folder):
    alone = asking(folder, layout={})
    assert alone.model.asked_as == "small"
    assert set(alone.models) == {"small"}
    assert alone.encoded(folder / "small.yaml")["x"].shape == (1, FEATURES)
    assert alone.decoded({"scores": np.array([[3.0]])}) == "small scores=3"
    assert [tensor.name for tensor in alone.signature().inputs] == ["x"]


def test_an_ensemble_is_asked_with_the_codec_of_the_model_that_takes_the_request(folder):
    whole = asking(folder)
    assert whole.model.asked_as == "whole"
    (folder / "file").write_bytes(b"12345")
    request = whole.encoded(folder / "file")
    assert request.keys() == {"raw"}
    assert request["raw"][0, 0] == 5
    assert whole.decoded({"answer": np.array([[2.0]])}) == "small scores=2"
    signature = whole.signature()
    assert [(tensor.name, tensor.shape) for tensor in signature.inputs] == [("raw", (-1, FEATURES))]
    assert [tensor.name for tensor in signature.outputs] == ["answer"]


def test_an_archive_holds_tensors_as_the_model_calls_them_or_as_the_ensemble_does(folder):
    write_prepare(folder)
    whole = asking(folder)
    for name in ("x", "raw"):
        np.savez(folder / f"{name}.npz", **{name: np.ones((1, FEATURES), np.float32)})
        assert whole.encoded(folder / f"{name}.npz").keys() == {"raw"}
    np.savez(folder / "y.npz", y=np.ones((1, FEATURES), np.float32))
    with pytest.raises(CodecError, match=r"y.npz \(\['y'\]\): gives no input 'x' of model prepare.*'raw'"):
        whole.encoded(folder / "y.npz")


def test_words_are_those_of_a_model_whose_outputs_are_all_answered(folder):
    own = asking(folder, layout=ensemble(outputs=["ready", "answer"]))
    both = {"ready": np.array([[1.0]]), "answer": np.array([[2.0]])}
    assert own.decoded(both) == "small scores=2"
    steps = [ENSEMBLE["steps"][0], ENSEMBLE["steps"][1] | {"outputs": {"scores": "seen"}}]
    steps.append({"model": "last", "build": "fp32", "inputs": {"x": "seen"}, "outputs": {"y": "answer"}})
    write_prepare(folder)
    (folder / "last.yaml").write_text((folder / "prepare.yaml").read_text().replace("name: prepare", "name: last"))
    numbers = asking(folder, layout=ensemble(steps=steps)).decoded({"answer": np.array([[2.0]])})
    assert numbers == "answer: [[2.]]"
    (folder / "last.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load((folder / "last.yaml").read_text()), "io": "prepare.py"})
    )
    assert asking(folder).decoded({"answer": np.array([[2.0]])}) == "prepare y=2"


def test_without_its_models_at_hand_nothing_is_known_of_its_inputs(folder):
    write_prepare(folder, source={"url": "https://example.com/prepare.onnx", "sha256": "0" * 64})
    assert asking(folder).signature() is None
    (folder / "prepare.yaml").unlink()
    with pytest.raises(SpecError, match=r"prepare.yaml: .*does not exist"):
        asking(folder).signature()


def test_a_request_has_the_axes_that_a_server_declares_and_the_types_that_the_model_takes(tmp_path):
    folder = write_model_folder(tmp_path / "one", layout={}).parent
    one = helper.make_tensor_value_info("word", TensorProto.STRING, ["batch"])
    out = helper.make_tensor_value_info("same", TensorProto.STRING, ["batch"])
    graph = helper.make_graph([helper.make_node("Identity", ["word"], ["same"])], "same", [one], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "small.onnx")
    alone = asking(folder, verify={"inputs": None, "max_abs_error": 0.1}, builds={"fp32": {"engine": "onnxruntime"}})

    def made(**tensors):
        np.savez(folder / "given.npz", **tensors)
        return alone.encoded(folder / "given.npz")

    for given in (np.array(["good"]), np.array([["good"]])):
        assert made(word=given)["word"].tolist() == [["good"]]
    with pytest.raises(CodecError, match=r"given.npz \(\['words'\]\): gives other inputs .*\['word'\]"):
        made(words=np.array(["good"]))
    with pytest.raises(CodecError, match=r"word \(float64 \[1\]\): has another type or shape .*BYTES of shape \[-1, 1\]"):
        made(word=np.array([1.0]))
    with pytest.raises(CodecError, match=r"has another type or shape"):
        made(word=np.array([["a", "b"]]))
