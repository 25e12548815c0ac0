"""Models that end the process in which ONNX Runtime loads them: a sentence, and the process that asked goes on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_graphs import branching, graph_of, written
from e2e_small_model import FEATURES
from onnx import helper, numpy_helper

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.onnx_model.trial import fatal
from gpuserve_images.optimise.quantise import quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.target import Target

ALL = CalibrateSpec.parse({"inputs": "samples", "keep_head": False, "method": "minmax"})
NODES = Path(onnx.__file__).parent / "backend/test/data/node"


def sample(folder):
    """The first inputs of one of ONNX's own test models."""
    names = [tensor.name for tensor in read_signature(folder / "model.onnx").inputs]
    files = sorted((folder / "test_data_set_0").glob("input_*.pb"))
    return {name: numpy_helper.to_array(onnx.load_tensor(str(file))) for name, file in zip(names, files, strict=True)}


@pytest.mark.parametrize("name", ["test_affine_grid_2d_expanded", "test_affine_grid_3d_expanded"])
def test_a_result_that_would_end_the_process_is_refused(tmp_path, name):
    source, out = NODES / name / "model.onnx", tmp_path / "int8.onnx"
    words = (
        r"once it is INT8: .* branches or loops \(SIGABRT: Assertion '.*' failed\.\)\. Fix: Export the model without branches"
    )
    with pytest.raises(SourceError, match=words):
        quantise_static(source, out, [sample(source.parent)], ALL, Target("cpu"))
    assert (fatal(out) or "").startswith("SIGABRT: ")


def test_other_models_are_not_fatal(tmp_path):
    assert fatal(written(branching(), tmp_path)) is None
    assert fatal(written(graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(FEATURES)}), tmp_path)) is None
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    assert fatal(tmp_path / "broken.onnx") is None
    assert fatal(tmp_path / "missing.onnx") is None
