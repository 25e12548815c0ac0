"""What may be said of an export, what is missing for one, and files whose names or interface are not what they should be."""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import ExportError, SourceError
from gpuserve_images.export.environments import BACKENDS, Backend, environment
from gpuserve_images.export.exporting import export, source_runner
from gpuserve_images.export.processes import ExportProcess
from gpuserve_images.export.spec import ExportSpec
from gpuserve_images.export.tidying import require_names, tidy
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import TensorSpec, read_signature

X = TensorSpec(name="x", dtype="FP32", shape=(-1, 2))
Y = TensorSpec(name="y", dtype="FP32", shape=(-1, 2))


@dataclass(frozen=True)
class Files:
    entry: Path
    sha256: str = "0" * 64


@pytest.mark.parametrize(
    ("written", "field", "fix"),
    [
        ({"opset": 16}, "opset = 16", "write 17 or more"),
        ({"opset": 22}, "opset = 22", "write 21 or less"),
        ({"inputs": [{"name": "petal width"}]}, "inputs[0].name = 'petal width'", "begin with a letter"),
        ({"outputs": ["2nd"]}, "outputs[0] = '2nd'", "begin with a letter"),
        ({"outputs": ["a", "b", "a"]}, "names two tensors 'a'", "a name of its own"),
        ({"inputs": [{"name": "a"}], "outputs": ["a"]}, "names two tensors 'a'", "a name of its own"),
        ({"inputs": [{"name": "a", "shape": [1, 4]}]}, "fixes the batch axis of 'a' in [1, 4]", "`batch: false`"),
        ({"inputs": [{"name": "a", "shape": []}]}, "fixes the batch axis of 'a' in []", "`batch: false`"),
        ({"inputs": [{"name": "a", "shape": [-1, 0]}]}, "an axis of size 0", "write -1"),
        ({"inputs": [{"name": "a", "shape": [-1, -2]}]}, "inputs[0].shape[1] = -2", "write -1 or more"),
        ({"inputs": [{"name": "a", "dtype": "FLOAT"}]}, "inputs[0].dtype = 'FLOAT'", "'FP32'"),
        ({"arguments": {"width": 3}}, "nothing to call", "add `factory:`"),
        ({"factory": "net.py"}, "factory = 'net.py'", "correct the value"),
        ({"opsett": 17}, "opsett", "did you mean 'opset'?"),
    ],
)
def test_what_may_be_said(written, field, fix):
    with pytest.raises(SpecError) as caught:
        ExportSpec.parse(written)
    assert field in str(caught.value)
    assert fix in str(caught.value)


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr("gpuserve_images.export.environments._version", lambda package: None)
    monkeypatch.delenv("GPUSERVE_EXPORT_PYTHON", raising=False)


@pytest.mark.parametrize("kind", sorted(BACKENDS))
def test_an_absent_back_end_names_its_extra(kind, nothing_installed, tmp_path):
    with pytest.raises(ExportError) as caught:
        export(Files(tmp_path / "model"), kind, ExportSpec(), tmp_path / "model.onnx", folder=tmp_path)
    assert f"pip install 'gpuserve[export-{kind}]'" in str(caught.value)
    assert "GPUSERVE_EXPORT_PYTHON" in str(caught.value)
    assert not (tmp_path / "model.onnx").exists()


def test_the_other_environment_is_asked(nothing_installed, monkeypatch):
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", link := f"{Path(sys.executable).parent}/python3")
    found = environment("lightgbm")
    assert found.python == Path(link)
    assert set(found.versions) == {"lightgbm", "onnx", "numpy"}


def test_the_other_environment_goes_before_our_own(monkeypatch):
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", link := f"{Path(sys.executable).parent}/python3")
    assert environment("sklearn").python == Path(link)


def test_an_environment_that_lacks_the_packages_is_passed_over(monkeypatch, tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho '{}'\n")
    bare.chmod(0o755)
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", str(bare))
    assert environment("sklearn").python == Path(sys.executable)


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_the_other_environment_is_no_python(python, nothing_installed, monkeypatch):
    monkeypatch.setenv("GPUSERVE_EXPORT_PYTHON", python)
    with pytest.raises(ExportError, match=rf"GPUSERVE_EXPORT_PYTHON \({python}\): is no Python that runs"):
        environment("torch")


def test_every_extra_is_declared():
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {backend.extra for backend in BACKENDS.values()} <= set(declared)


def test_a_back_end_that_crashes_is_an_error(tmp_path):
    crashing = tmp_path / "crashing"
    crashing.write_text("#!/bin/sh\necho the last words >&2\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    with ExportProcess(crashing, "model.bin") as process, pytest.raises(ExportError) as caught:
        process.ask({"do": "load"})
    assert "model.bin: cannot be exported: the export process was ended by SIGSEGV" in str(caught.value)
    assert "the last words" in str(caught.value)


def test_what_a_framework_leaves_goes_with_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    leaving = tmp_path / "leaving"
    leaving.write_text('#!/bin/sh\ntouch "$TMPDIR/generated.py"\nexec sleep 60\n')
    leaving.chmod(0o755)
    with ExportProcess(leaving, "model.bin"):
        deadline = time.monotonic() + 10
        while not list(tmp_path.glob("*/generated.py")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(tmp_path.glob("*/generated.py"))
    assert list(tmp_path.iterdir()) == [leaving]


def test_the_process_ends_when_a_back_end_fails_in_a_way_of_its_own(monkeypatch, tmp_path):
    broken = Backend(module="opset", extra="none", packages=("onnx",))
    monkeypatch.setitem(BACKENDS, "lightgbm", broken)
    before = _children()
    with pytest.raises(ExportError, match=r"AttributeError: .* has no attribute 'load'"):
        source_runner(Files(tmp_path / "model.txt"), "lightgbm", folder=tmp_path)
    assert _children() == before


def _children():
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()


def written(path, nodes, inputs=("a",), outputs=("b",), **more):
    def values(names):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in names]

    graph = helper.make_graph(nodes, "random-4711", values(inputs), values(outputs), **more)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], doc_string=f"made in {path}")
    helper.set_model_props(model, {"pkg.torch.stack_trace": str(path)})
    for node in model.graph.node:
        node.doc_string = f"{path}:7"
    onnx.save(model, path)
    return path


def test_tidy_renames_through_values_that_have_the_name_already(tmp_path):
    """The value in the middle is called what the output is to be called, and a branch reads the input by its old name."""
    branch = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["x"])], "then", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["z"])],
        "else",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2])],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=other),
        helper.make_node("Add", ["y", "a"], ["sum__12"]),
        helper.make_node("Add", ["sum__12", "a"], ["b"], name="last__40"),
    ]
    path = written(tmp_path / "model.onnx", nodes, initializer=[yes])
    tidy(path, [X], [Y], "source")
    onnx.checker.check_model(str(path), full_check=True)
    session = Session(path)
    assert (session.signature.inputs, session.signature.outputs) == ((X,), (Y,))
    for size in (1, 3):
        rows = np.arange(2 * size, dtype=np.float32).reshape(size, 2)
        np.testing.assert_array_equal(session.run({"x": rows})["y"], rows)
    text = str(onnx.load(path))
    assert str(tmp_path) not in text
    assert "random-4711" not in text
    assert "sum__12" not in text


def test_tidy_tells_of_another_interface(tmp_path):
    nodes = [helper.make_node("Neg", ["a"], ["b"])]
    path = written(tmp_path / "model.onnx", nodes)
    with pytest.raises(ExportError, match="exported with 1 inputs, and the model itself has 2"):
        tidy(path, [X, Y], [X], "source")
    with pytest.raises(ExportError, match="exported with 1 outputs, and the model itself has 2"):
        tidy(path, [X], [X, Y], "source")


@pytest.mark.parametrize("name", ["petal width (cm)", "", " ", "a\nb", "a\tb", "a\u00a0b", "a\x7f"])
def test_a_name_that_is_not_one_word_is_refused_of_any_model(tmp_path, name):
    reason = "name is empty, or has spaces or control characters"
    with pytest.raises(ExportError, match=reason) as caught:
        require_names([X, TensorSpec(name=name, dtype="FP32", shape=(-1,))], "model.pt2")
    assert "export: {inputs: [{name: ...}]" in caught.value.fix
    for inputs, outputs in ((["a", name], ["b"]), (["a"], ["b", name])):
        path = written(tmp_path / "model.onnx", [helper.make_node("Neg", ["a"], ["b"])], inputs, outputs)
        with pytest.raises(SourceError, match=reason) as caught:
            read_signature(path)
        assert caught.value.value == repr(name)


@pytest.mark.parametrize("name", ["1st", "495", "größe", "serving_default_x:0", "/model/layer.1/out", "a(b)", "x@1"])
def test_a_name_of_one_word_is_taken_of_any_model(tmp_path, name):
    require_names([TensorSpec(name=name, dtype="FP32", shape=(-1,))], "model.pt2")
    path = written(tmp_path / "model.onnx", [helper.make_node("Neg", [name], ["b"])], [name], ["b"])
    assert [tensor.name for tensor in read_signature(path).inputs] == [name]
