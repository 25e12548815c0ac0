"""Axes that a model calls alike and that are not: TensorRT would take the names at their word."""

import numpy as np
import onnx
import pytest
import tensorrt_rtx
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.compile.axes import unname_axes
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.profiles import Profile
from gpuserve_images.compile.tensorrt import compile_engine

WIDE = Profile((1, 3, 32, 64), (2, 3, 48, 192), (4, 3, 64, 256))


def image_model(*sizes: str) -> onnx.ModelProto:
    """A convolution over images of three colours, whose free sizes are called so."""
    kernel = numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "kernel")
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["y"]), helper.make_node("GlobalAveragePool", ["y"], ["scores"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, *sizes])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2, 1, 1])
    graph = helper.make_graph(nodes, "graph", [x], [scores], [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def names(model: onnx.ModelProto) -> list[str]:
    return [dimension.dim_param for dimension in model.graph.input[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("sizes", "left"),
    [
        (("?", "?"), ["batch", "", "", ""]),
        (("p2o.DynamicDimension.1", "width"), ["batch", "", "", "width"]),
        (("size", "size"), ["batch", "", "", ""]),
        (("batch", "width"), ["", "", "", "width"]),
        (("height", "width"), ["batch", "", "height", "width"]),
    ],
)
def test_names_that_cannot_be_meant_are_taken_off(sizes, left):
    model = image_model(*sizes)
    assert unname_axes(model, {"x": WIDE}) is (names(model) != ["batch", "", *sizes])
    assert names(model) == left


def test_sizes_of_one_name_and_one_profile_stay_equal():
    square = Profile((1, 3, 32, 32), (2, 3, 48, 48), (4, 3, 64, 64))
    model = image_model("size", "size")
    assert not unname_axes(model, {"x": square})
    assert names(model) == ["batch", "", "size", "size"]


@pytest.mark.parametrize("name", ["?", "size"])
def test_an_engine_takes_the_sizes_that_its_profile_says(tmp_path, name):
    onnx.save(image_model(name, name), tmp_path / "model.onnx")
    shapes = {"x": Profile((1, 3, 48, 192), (2, 3, 48, 192), (4, 3, 48, 192))}
    compile_engine(tensorrt_rtx, tmp_path / "model.onnx", tmp_path / "out", architecture="sm_89", shapes=shapes)
    assert (tmp_path / "out").stat().st_size


def test_weights_in_a_file_beside_the_model_are_found(tmp_path):
    onnx.save(image_model("?", "?"), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    compile_engine(tensorrt_rtx, tmp_path / "model.onnx", tmp_path / "out", architecture="sm_89", shapes={"x": WIDE})
    (tmp_path / "weights").unlink()
    with pytest.raises(CompileError):
        compile_engine(tensorrt_rtx, tmp_path / "model.onnx", tmp_path / "out", architecture="sm_89", shapes={"x": WIDE})
