"""ONNX Runtime's errors: said once, at the node where they come from."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.session import Session


def branching(path):
    """Save a model that multiplies `x` by a 3x3 matrix where `rate` is not 16000, within a branch."""
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 3], [1.0] * 9)
    result = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)]
    same = helper.make_graph([helper.make_node("Identity", ["x"], ["scores"], "pass")], "same", [], result)
    other = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["scores"], "project")], "other", [], result, [weights]
    )
    known = helper.make_tensor("known", TensorProto.INT64, [], [16000])
    nodes = [
        helper.make_node("Equal", ["rate", "known"], ["equal"]),
        helper.make_node("If", ["equal"], ["scores"], "choose", then_branch=same, else_branch=other),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    graph = helper.make_graph(nodes, "graph", inputs, result, [known])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_failure_within_a_branch_names_its_node_and_is_said_once(tmp_path, capfd):
    session = Session(branching(tmp_path / "model.onnx"))
    x = np.ones((1, 5), np.float32)
    assert session.run({"x": x, "rate": np.array(16000)})["scores"].shape == (1, 5)
    with pytest.raises(SourceError) as caught:
        session.run({"x": x, "rate": np.array(8000)})
    reason = caught.value.reason
    assert reason.startswith("fails in ONNX Runtime on inputs x float32[1, 5], rate int64[]: MatMul (node '")
    assert "project'): " in reason
    assert "Non-zero status" not in reason
    assert "`verify.generate.ranges`" in caught.value.fix
    assert capfd.readouterr().err == ""
