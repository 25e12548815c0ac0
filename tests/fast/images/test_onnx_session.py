"""ONNX Runtime's errors: said once, at the node where they come from."""

import numpy as np
import pytest
from e2e_graphs import branching, written

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.session import Session


def test_a_failure_within_a_branch_names_its_node_and_is_said_once(tmp_path, capfd):
    session = Session(written(branching(), tmp_path))
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
