"""PyTorch, TensorFlow and an older scikit-learn: exported in an environment of their own, compared with the framework over batch sizes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from environments import HERE, environment, run

from gpuserve_images.errors import ExportError
from gpuserve_images.export.exporting import export, identity, source_runner
from gpuserve_images.export.spec import ExportSpec
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make, runs
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.records import sha256_file
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target

pytestmark = pytest.mark.slow
RANDOM = np.random.default_rng(0)
TEXT = {
    "inputs": [{"name": "tokens", "dtype": "INT64", "shape": [-1, -1]}],
    "outputs": ["scores"],
    "factory": "net.py:text",
    "arguments": {"width": 8},
}


@dataclass(frozen=True)
class Files:
    entry: Path
    sha256: str = "0" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that makes the models of a framework once."""
    folders = {}

    def models(kind):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            run(str(environment(kind)), str(HERE / f"{kind}_models.py"), str(folders[kind]))
        return folders[kind]

    return models


@pytest.fixture
def torch_models(made, monkeypatch):
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", str(environment("torch")))
    return made("torch")


@pytest.fixture
def tensorflow_models(made, monkeypatch):
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", str(environment("tensorflow")))
    return made("tensorflow")


@pytest.fixture
def sklearn_models(made, monkeypatch):
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", str(environment("sklearn")))
    return made("sklearn")


def agrees(path, kind, spec, requests, tmp_path):
    """Export, and compare with the framework itself for each request; returns the exported file."""
    out = tmp_path / "model.onnx"
    spec = ExportSpec.parse(spec)
    record = export(Files(path), kind, spec, out, folder=path.parent)
    assert record.outputs == {"model.onnx": sha256_file(out)}
    assert str(path.parent) not in record.model_dump_json()
    assert str(path.parent).encode() not in out.read_bytes()
    onnx.checker.check_model(str(out), full_check=True)
    signature = read_signature(out)
    assert signature.opset == spec.opset
    assert signature.batched
    session = Session(out)
    with source_runner(Files(path), kind, spec, folder=path.parent) as source:
        assert source.signature.same_interface(signature)
        for request in requests:
            want, got = source.run(request), session.run(request)
            assert want.keys() == got.keys()
            for name, array in want.items():
                assert (array.dtype, array.shape) == (got[name].dtype, got[name].shape)
                np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    return out


def goes_through_the_whole_build(path, kind, spec, exported, request, tmp_path):  # noqa: PLR0913, PLR0917 - of one assertion
    """Build an image's files of a source; its export must give the same bytes as `exported`, and its model the same answers."""
    source = {"file": path.name, "format": kind}
    verify = {"generate": {"count": 5}, "max_abs_error": 1e-4}
    builds = {"fp32": {"engine": "onnxruntime"}}
    data = {"name": "net", "source": source, "export": spec, "builds": builds, "batch": {"max": 3}, "verify": verify}
    chain = plan(Job(ModelSpec.parse(data), "fp32", path.parent, Target()), "registry/base:1")
    with Runner(tmp_path / "cache") as runner:
        made = make(chain, runner)
        files = made.files(runner)
        first = next(done for done in runner.done.values() if done.stage == "export")
        assert [run.stage for run in runs(chain, runner)] == ["export", "optimise", "verify", "layout"]
        assert sha256_file(first.file) == sha256_file(exported)
        # Measured against the framework itself: its own process answers, not the exported file.
        assert (made.summary.parity.samples, made.summary.parity.batches) == (5, (1, 3))
        assert made.summary.parity.max_abs_error < 1e-4
        assert made.summary.signature.same_interface(read_signature(exported))
        assert {"/models/net/config.pbtxt", "/models/net/1/model.onnx"} <= files.keys()
        want, got = Session(exported).run(request), Session(files["/models/net/1/model.onnx"]).run(request)
    assert want.keys() == got.keys()
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def refusal(path, kind, tmp_path, spec=()):
    out = tmp_path / "model.onnx"
    with pytest.raises(ExportError) as caught:
        export(Files(path), kind, ExportSpec.parse(dict(spec)), out, folder=path.parent)
    return caught.value


def floats(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def test_exported_program(torch_models, tmp_path):
    requests = [{"picture": floats(size, 3, 12, 12), "scale": floats(size, 1)} for size in (1, 2, 7)]
    out = agrees(torch_models / "picture.pt2", "torch", {}, requests, tmp_path)
    assert [tensor.name for tensor in read_signature(out).outputs] == ["logits", "features"]
    goes_through_the_whole_build(torch_models / "picture.pt2", "torch", {}, out, requests[1], tmp_path)


def test_a_dictionary_that_is_ordered_names_the_outputs(torch_models, tmp_path):
    out = agrees(torch_models / "ordered.pt2", "torch", {}, [{"x": floats(size, 3)} for size in (1, 4)], tmp_path)
    assert [tensor.name for tensor in read_signature(out).outputs] == ["twice", "half"]


@pytest.mark.parametrize("opset", [18, 20])
def test_state_dict_with_its_factory(opset, torch_models, tmp_path):
    requests = [{"tokens": RANDOM.integers(0, 50, (size, 4 + size))} for size in (1, 3, 8)]
    out = agrees(torch_models / "text.safetensors", "torch", {**TEXT, "opset": opset}, requests, tmp_path)
    # Attention moves the batch axis before a product, which ended the process in FP16 (see `optimise.exchanged`).
    to_fp16(out, tmp_path / "half.onnx")
    (want,), (got,) = (Session(file).run(requests[1]).values() for file in (out, tmp_path / "half.onnx"))
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("file", ["checkpoint.pt", "parallel.pth"])
def test_state_dict_as_pytorch_saves_it(file, torch_models, tmp_path):
    agrees(torch_models / file, "torch", TEXT, [{"tokens": RANDOM.integers(0, 50, (size, 5))} for size in (1, 3)], tmp_path)


def test_the_factory_is_part_of_the_identity(torch_models, tmp_path):
    spec = ExportSpec.parse(TEXT)
    (tmp_path / "net.py").write_bytes((torch_models / "net.py").read_bytes())
    before = identity("torch", spec, tmp_path)
    assert before == identity("torch", spec, torch_models)
    (tmp_path / "net.py").write_text("# another")
    assert identity("torch", spec, tmp_path) != before
    with pytest.raises(ExportError, match=r"export.factory \(net.py:text\): does not exist"):
        identity("torch", spec, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "spec", "told"),
    [
        ("fixed.pt2", {}, "has no free batch axis: 'picture' has the shape [2, 3, 12, 12]"),
        ("constant.pt2", {}, "has no inputs"),
        ("typed.pt2", {}, "(transformers.modeling_outputs.Answer): takes or gives a type that only its own package knows"),
        ("singular.pt2", {}, "(aten._linalg_svd, node _linalg_svd): uses an operator that ONNX has no form of"),
        ("picture.pt2", {"opset": 17}, "opset 18 or later"),
        ("picture.pt2", {"inputs": [{"name": "x"}]}, "takes picture: float32 [-1, 3, 12, 12], scale: float32 [-1, 1]"),
        ("whole.pt", TEXT, "holds objects that only your own code makes, and not tensors alone: "),
        ("script.pt", TEXT, "is TorchScript, which torch.export has replaced"),
        ("several.pt", TEXT, "holds a dict with the keys teacher, student, and not the tensors of one model"),
        ("cut.pt", TEXT, "cannot be read by PyTorch"),
        ("net.py", {}, "(.py): is neither an ExportedProgram (.pt2) nor a state dict (.safetensors, .pt, .pth)"),
        ("net.py.pt2", {}, "is no ExportedProgram"),
        ("text.safetensors", {}, "holds weights and not the code"),
        ("text.safetensors", {**TEXT, "inputs": []}, "does not say what it takes"),
        ("text.safetensors", {**TEXT, "arguments": {}}, "does not fit the module that"),
        ("text.safetensors", {**TEXT, "factory": "net.py:nothing"}, "fails: KeyError"),
        ("text.safetensors", {**TEXT, "factory": "net.py:crash", "arguments": {}}, "was ended by SIGABRT"),
    ],
)
def test_torch_refusals(file, spec, told, torch_models, tmp_path):
    if file == "net.py.pt2":
        (torch_models / file).write_bytes((torch_models / "net.py").read_bytes())
    assert told in str(refusal(torch_models / file, "torch", tmp_path, spec))


def test_fixed_shapes_stay_where_that_is_wished(torch_models, tmp_path):
    out = tmp_path / "model.onnx"
    export(Files(torch_models / "fixed.pt2"), "torch", ExportSpec(batch=False), out, folder=torch_models)
    assert read_signature(out).inputs[0].shape == (2, 3, 12, 12)


def test_keras_saved_model(tensorflow_models, tmp_path):
    spec = {"inputs": [{"name": "picture"}], "outputs": ["probabilities"]}
    requests = [{"picture": floats(size, 8, 8, 3)} for size in (1, 2, 9)]
    out = agrees(tensorflow_models / "picture", "tensorflow", spec, requests, tmp_path)
    goes_through_the_whole_build(tensorflow_models / "picture", "tensorflow", spec, out, requests[1], tmp_path)


def test_saved_model_with_the_optimizer_that_trained_it(tensorflow_models, tmp_path):
    agrees(tensorflow_models / "trained", "tensorflow", {}, [{"x": floats(size, 3)} for size in (1, 4)], tmp_path)


@pytest.mark.parametrize("opset", [17, 18])
def test_signature_with_several_inputs_and_outputs(opset, tensorflow_models, tmp_path):
    requests = [{"a": RANDOM.integers(0, 9, size), "b": floats(size, 3)} for size in (1, 4)]
    agrees(tensorflow_models / "several", "tensorflow", {"signature": "served", "opset": opset}, requests, tmp_path)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, "(serving_default): has no such signature; it has constant, fixed, served, singular"),
        ({"signature": "fixed"}, "has no free batch axis: 'x' has the shape [2, 3]"),
        ({"signature": "constant"}, "has no inputs"),
        ({"signature": "singular"}, "(Svd, node "),
        ({"signature": "served", "opset": 19}, "opset 18 at most"),
        ({"signature": "served", "outputs": ["sum"]}, "has 2 outputs (best, sum)"),
    ],
)
def test_tensorflow_refusals(spec, told, tensorflow_models, tmp_path):
    assert told in str(refusal(tensorflow_models / "several", "tensorflow", tmp_path, spec))


def test_no_saved_model(tensorflow_models, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is no SavedModel" in str(refusal(tmp_path / "empty", "tensorflow", tmp_path))


def rows(size):
    return {"input": floats(size, 4)}


def people(size):
    return {"age": floats(size, 1), "city": np.array(["Oslo", "Bern", "Rome", "Oslo"][:size], object).reshape(-1, 1)}


def words(size):
    return {"input": np.array(["no good film", "bad", "weather", "a day"][:size], object).reshape(-1, 1)}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("logistic", rows),
        ("forest", rows),
        ("boosted", rows),
        ("neighbours", rows),
        ("network", rows),
        ("vectors", rows),
        ("table", people),
        ("texts", words),
    ],
)
def test_pickle_of_an_older_scikit_learn(name, asked, sklearn_models, tmp_path):
    agrees(sklearn_models / f"{name}.joblib", "sklearn", {}, [asked(size) for size in (1, 4)], tmp_path)


def test_older_scikit_learn_through_the_whole_build(sklearn_models, tmp_path):
    model = sklearn_models / "forest.joblib"
    exported = agrees(model, "sklearn", {}, [rows(3)], tmp_path)
    goes_through_the_whole_build(model, "sklearn", {}, exported, rows(3), tmp_path)


def test_a_pickle_is_refused_where_the_other_scikit_learn_is(sklearn_models, tmp_path, monkeypatch):
    model = sklearn_models / "logistic.joblib"
    monkeypatch.delenv("GPUSERVE_EXPORT_PYTHON")
    told = str(refusal(model, "sklearn", tmp_path))
    assert "(1.2.2): was saved by scikit-learn 1.2.2, and " in told
    assert "Install 'scikit-learn==1.2.*', here or, with skl2onnx and pandas, in a Python of its own" in told


def test_what_its_converter_lacks_is_said(sklearn_models, tmp_path):
    assert "histogram" in str(refusal(sklearn_models / "histogram.joblib", "sklearn", tmp_path))
