"""The curl example: what a shell makes of it is a request that the server takes, whatever the types and shapes."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpuserve.platform.outputs import curl_example
from gpuserve.platform.spec import ServiceSpec
from gpuserve_images.asking import Asking
from gpuserve_images.spec import ModelSpec

SERVICE = {"name": "m", "model": "m", "pool": "p", "versions": [{"build": "fp32", "weight": 100}]}


def posted(folder: Path, kind: int, shape: list[str | int], **changes: Any) -> dict[str, Any]:
    """Return the one input that the example for a model posts."""
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    builds = {"fp32": {"engine": "onnxruntime"}}
    model = ModelSpec.parse({"name": "m", "source": {"file": "m.onnx"}, "builds": builds, **changes})
    signature = Asking(model, folder).example()
    assert signature is not None
    service = ServiceSpec.parse({**SERVICE, "traffic": {"host": "m.example.com"}})
    example = curl_example("http://127.0.0.1:8080", service, "m", signature, "n")
    shown = f'curl() {{ if [ "${{@: -1}}" = @- ]; then cat; else printf %s "${{@: -1}}"; fi; }}\n{example}'
    (tensor,) = json.loads(subprocess.run(["bash", "-c", shown], capture_output=True, check=True).stdout)["inputs"]
    return tensor


@pytest.mark.parametrize(
    ("kind", "zero", "datatype"),
    [
        (TensorProto.FLOAT, 0, "FP32"),
        (TensorProto.INT64, 0, "INT64"),
        (TensorProto.BOOL, False, "BOOL"),
        (TensorProto.STRING, "", "BYTES"),
    ],
)
def test_each_type_has_its_zero(tmp_path: Path, kind: int, zero: object, datatype: str) -> None:
    assert posted(tmp_path, kind, ["n", 3]) == {"name": "x", "shape": [1, 3], "datatype": datatype, "data": [zero] * 3}


@pytest.mark.parametrize(
    ("shape", "changes", "asked"),
    [
        (["n"], {}, [1, 1]),
        (["n"], {"batch": "none"}, [1]),
        ([2], {}, [2]),
        ([], {}, [1]),
        (["n", "m"], {}, [1, 1]),
    ],
)
def test_no_tensor_is_without_an_axis_that_triton_declares(
    tmp_path: Path, shape: list[str | int], changes: dict[str, Any], asked: list[int]
) -> None:
    assert posted(tmp_path, TensorProto.STRING, shape, **changes)["shape"] == asked


@pytest.mark.parametrize("batch", ["none", {"max": 4}], ids=["alone", "batched"])
@pytest.mark.parametrize("said", ["shapes", "profile", "sample", "nothing"])
def test_free_axes_have_sizes_that_the_model_is_known_to_take(tmp_path: Path, said: str, batch: Any) -> None:
    """A detector that is free in height and width fails on an image of one pixel."""
    behind = [3, 4, 5]
    shape = [1, *behind]
    changes: dict[str, Any] = {"batch": batch}
    if said == "shapes":
        changes["verify"] = {"generate": {"shapes": {"x": shape if batch == "none" else behind}}}
    elif said == "profile":
        profile = dict.fromkeys(("min", "opt", "max"), shape if batch == "none" else [-1, *behind])
        engine = {"engine": "tensorrt-rtx", "architectures": ["sm_89"], "profiles": {"x": profile}}
        changes["builds"] = {"fp32": {"engine": "onnxruntime"}, "rtx": engine}
    elif said == "sample":
        (tmp_path / "samples").mkdir()
        np.savez(tmp_path / "samples" / "0.npz", x=np.ones(shape, np.float32))
        changes["verify"] = {"inputs": "samples"}
    tensor = posted(tmp_path, TensorProto.FLOAT, ["n", 3, "h", "w"], **changes)
    assert tensor["shape"] == (shape if said != "nothing" else [1, 3, 1, 1])
    assert len(tensor["data"]) == math.prod(tensor["shape"])


@pytest.mark.parametrize("samples", ["nowhere", "odd"])
def test_samples_that_do_not_fit_are_the_business_of_a_build(tmp_path: Path, samples: str) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "0.npz").write_bytes(b"no archive")
    assert posted(tmp_path, TensorProto.FLOAT, ["n", "h"], verify={"inputs": samples})["shape"] == [1, 1]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.STRING, TensorProto.BOOL])
def test_more_than_a_command_line_holds_goes_through_a_pipe(tmp_path: Path, kind: int) -> None:
    assert len(posted(tmp_path, kind, ["n", 3, 224, 224])["data"]) == 3 * 224 * 224
