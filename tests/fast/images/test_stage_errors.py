"""What stages say of a model: they name what the user gave, and not where the cache keeps it."""

import hashlib

import pytest
from e2e_graphs import branching
from onnx import TensorProto, helper

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or None)


def unknown():
    """A model with an operator that ONNX Runtime does not have."""
    node = helper.make_node("Unheard", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([node], "g", [tensor("x", "n", 4)], [tensor("y", "n", 4)])
    sets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString()


@pytest.fixture
def refusal(cli, tmp_path, monkeypatch):
    """Return what a build of a model's file says, or of the same model at an address."""
    monkeypatch.chdir(tmp_path)

    def get(source, precision):
        text = f"name: mine\nsource: {source}\nverify: {{cosine: 0.9, generate: {{shapes: {{x: [3]}}}}}}\nbuilds:\n  small: {{engine: onnxruntime, precision: {precision}}}\n"
        (tmp_path / "mine.yaml").write_text(text)
        result = cli("compile", "mine.yaml", "--build", "small", "-o", "out")
        assert result.exit_code == 1
        return " ".join(result.stderr.split())

    return get


def test_a_later_stage_names_the_file_and_the_stage_that_it_comes_from(refusal, tmp_path):
    (tmp_path / "a.onnx").write_bytes(branching().SerializeToString())
    for _ in range(2):  # the second time without running the stage before
        said = refusal("{file: a.onnx}", "fp16")
        assert said.endswith(
            "a.onnx after optimise (If): has control flow, and the conversion does not reach into branches. "
            "Fix: Build it in fp32, or export it without control flow."
        )
        assert "/stages/" not in said


def test_a_downloaded_file_is_named_by_its_address(refusal, web):
    url = web.put("b.onnx", unknown())
    said = refusal(f"{{url: '{url}', sha256: {hashlib.sha256(unknown()).hexdigest()}}}", "fp32")
    assert f"{url} (Unheard): " in said
    assert "/sources/" not in said


def test_the_users_own_file_keeps_its_name(refusal, tmp_path):
    (tmp_path / "c.onnx").write_bytes(unknown())
    assert f"{tmp_path}/c.onnx (Unheard): " in refusal("{file: c.onnx}", "fp32")
