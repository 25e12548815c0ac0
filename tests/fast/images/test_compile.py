"""Engines built for real without a GPU, and every way in which a model, a profile or an option cannot become one."""

import numpy as np
import onnx
import pytest
import tensorrt_rtx
from e2e_engines import A100, build
from e2e_small_model import FEATURES
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.compile.builders import architectures, rtx_module
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.compile.spec import ProfileSpec
from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.records import sha256_file
from gpuserve_images.target import Target

TEXT = Signature(
    inputs=(TensorSpec(name="ids", dtype="INT64", shape=(-1, -1)), TensorSpec(name="mask", dtype="INT64", shape=(-1, -1))),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 2)),),
    opset=17,
)
IMAGE = Signature(
    inputs=(TensorSpec(name="image", dtype="FP32", shape=(-1, 3, -1, 224)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 2)),),
    opset=17,
)
SENTENCES = ProfileSpec(min=(-1, 1), opt=(-1, 64), max=(-1, 512))


def graph(tmp_path, nodes, constants=(), *, inputs=(("x", TensorProto.FLOAT, ["n", FEATURES]),), output=TensorProto.FLOAT):
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "g",
        [value(*entry) for entry in inputs],
        [value("y", output, ["n", None])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "odd.onnx")
    return tmp_path / "odd.onnx"


class TestBuild:
    @pytest.mark.parametrize("architecture", ["sm_80", "sm_86", "sm_89", "sm_120"])
    def test_an_engine_is_built_without_a_gpu(self, source, shapes, tmp_path, architecture):
        out = tmp_path / "model.engine"
        record = build(source, out, architecture=architecture, shapes=shapes)
        assert out.stat().st_size > 1000
        assert record.options["profiles"] == {"x": [[1, FEATURES], [8, FEATURES], [16, FEATURES]]}
        assert record.outputs == {"model.engine": sha256_file(out)}
        assert record.tools == {"tensorrt_rtx": tensorrt_rtx.__version__}

    def test_turing_takes_fp16_and_refuses_fp32_with_what_to_write(self, source, shapes, tmp_path):
        with pytest.raises(
            CompileError, match=r"for sm_75 by tensorrt_rtx .*'first' for Turing.*FP32.* Fix: Write `precision: fp16`"
        ):
            build(source, tmp_path / "e", architecture="sm_75", shapes=shapes)
        to_fp16(source, tmp_path / "fp16.onnx")
        build(tmp_path / "fp16.onnx", tmp_path / "e", architecture="sm_75", shapes=shapes)
        assert (tmp_path / "e").stat().st_size > 1000

    def test_engines_of_two_architectures_differ(self, source, shapes, tmp_path):
        built = {build(source, tmp_path / arch, architecture=arch, shapes=shapes).outputs[arch] for arch in ("sm_80", "sm_89")}
        assert len(built) == 2

    def test_the_precision_is_the_models_own_and_the_report_shows_it(self, source, shapes, tmp_path):
        random = np.random.default_rng(3)
        samples = [{"x": random.normal(size=(1, FEATURES)).astype(np.float32)} for _ in range(16)]
        to_fp16(source, tmp_path / "fp16.onnx", samples=samples)
        quantise_static(source, tmp_path / "int8.onnx", samples, CalibrateSpec.parse({"inputs": "s"}), Target("gpu"))
        models = {"fp32": source, "fp16": tmp_path / "fp16.onnx", "int8": tmp_path / "int8.onnx"}
        summaries = {
            name: build(model, tmp_path / "model.engine", shapes=shapes).options["summary"] for name, model in models.items()
        }
        assert "HALF" not in summaries["fp32"]["precisions"]
        assert summaries["fp16"]["precisions"]["HALF"] >= 4
        assert summaries["int8"]["precisions"]["INT8"] >= 2
        assert summaries["fp32"]["layers"]["MATRIX_MULTIPLY"] == 2
        assert summaries["fp32"]["source"] == "network"
        assert summaries["fp32"]["memory"]["weights"] >= 4 * (FEATURES * 32 + 32 * 4)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"timing_cache": True}, r"compile.timing_cache \(True\): tensorrt_rtx 1\.\S+ has no timing cache"),
            ({"hardware_compatibility": "ampere-plus"}, r"compile.hardware_compatibility .* has no hardware compatibility"),
            ({"version_compatible": True}, r"compile.version_compatible .* ships no lean runtime"),
            ({"refit": True}, r"compile.refit \(True\): needs a GPU's driver in tensorrt_rtx .* no NVIDIA driver is installed"),
            ({"workspace": "0"}, r"compile.workspace \(0\): is no size of memory"),
        ],
    )
    def test_options_that_it_lacks_are_refused_with_module_and_version(self, source, shapes, tmp_path, options, words):
        with pytest.raises(CompileError, match=words):
            build(source, tmp_path / "e", shapes=shapes, options=options)
        assert not (tmp_path / "e").exists()

    def test_what_the_builder_says_of_an_option_counts_even_where_no_list_knows_it(self, source, shapes, tmp_path, monkeypatch):
        monkeypatch.setattr("gpuserve_images.compile.spec.LACKS", {})
        with pytest.raises(CompileError, match=r"tensorrt_rtx .* does not take it: .*unsupported in TensorRT-RTX"):
            build(source, tmp_path / "e", shapes=shapes, options={"hardware_compatibility": "ampere-plus"})

    def test_a_refittable_engine_that_cannot_be_built_here_says_which_options_it_had(self, source, shapes, tmp_path):
        there = Gpus((A100,), "570.1", "12.8")  # pretended: the build itself finds no driver
        with pytest.raises(CompileError, match=r"could not be compiled for sm_80 by tensorrt_rtx .* with refit: True: .*CUDA"):
            build(source, tmp_path / "e", shapes=shapes, options={"refit": True}, gpus=there)

    def test_an_architecture_that_this_builder_lacks_names_those_it_has(self, source, tmp_path):
        with pytest.raises(CompileError, match=r"architectures \(sm_90\).*builds for sm_75, sm_80"):
            build(source, tmp_path / "e", architecture="sm_90")
        assert "sm_80" in architectures(rtx_module())


class TestRefusals:
    def test_an_operator_that_tensorrt_lacks_is_named_with_its_node(self, tmp_path):
        nodes = [helper.make_node("NoSuch", ["x"], ["a"], name="odd"), helper.make_node("Bogus", ["a"], ["y"])]
        with pytest.raises(CompileError) as caught:
            build(graph(tmp_path, nodes), tmp_path / "e")
        assert "not accepted by the parser of tensorrt_rtx" in str(caught.value)
        assert "NoSuch (node 'odd'): " in str(caught.value)
        assert "Bogus (the node that makes 'y'): " in str(caught.value)
        assert "it lacks" not in str(caught.value)

    def test_of_many_operators_that_it_lacks_some_are_named(self, tmp_path):
        names = ["x", *(f"t{number}" for number in range(8)), "y"]
        nodes = [helper.make_node("DynamicQuantizeLinear", names[:1], ["q", "scale", "zero"], "odd")]
        nodes += [helper.make_node("ConvInteger", ["q", "q"], [f"c{number}"], f"layer{number}") for number in range(8)]
        nodes += [helper.make_node("Identity", ["x"], ["y"])]
        with pytest.raises(CompileError) as caught:
            build(graph(tmp_path, nodes), tmp_path / "e")
        assert "ConvInteger (node 'layer3'); and " in caught.value.reason
        assert "layer5" not in caught.value.reason
        assert "false" not in caught.value.reason

    @pytest.mark.parametrize(
        ("operator", "position", "constants"),
        [
            ("Gather", 1, {"c": [2**40]}),
            ("Reshape", 1, {"c": [-1, 2**33]}),
            ("Expand", 1, {"c": [2**33, 1, FEATURES]}),
            ("Tile", 1, {"c": [1, -(2**31) - 1]}),
        ],
    )
    def test_int64_sizes_and_indices_that_do_not_fit_are_named(self, tmp_path, operator, position, constants):
        nodes = [helper.make_node(operator, ["x", "c"], ["y"], name="wide")]
        model = graph(tmp_path, nodes, {"c": np.array(constants["c"], np.int64)})
        with pytest.raises(CompileError, match=rf"node 'wide' \({operator}\) \(-?\d{{10,}}\): .*constant 'c'.* INT32"):
            build(model, tmp_path / "e")
        assert position == 1

    def test_int64_constants_in_nodes_count_too(self, tmp_path):
        value = numpy_helper.from_array(np.array([2**40], np.int64))
        nodes = [
            helper.make_node("Constant", [], ["c"], value=value),
            helper.make_node("Gather", ["x", "c"], ["y"], name="wide"),
        ]
        with pytest.raises(CompileError, match=r"node 'wide' \(Gather\) \(1099511627776\)"):
            build(graph(tmp_path, nodes), tmp_path / "e")

    def test_the_largest_int64_as_a_slices_end_means_to_the_end(self, tmp_path):
        bounds = {"s": np.array([0], np.int64), "e": np.array([2**63 - 1], np.int64), "a": np.array([1], np.int64)}
        model = graph(tmp_path, [helper.make_node("Slice", ["x", *bounds], ["y"])], bounds)
        build(model, tmp_path / "e", shapes=profiles(read_signature(model), BatchSpec()))
        assert (tmp_path / "e").stat().st_size > 1000

    def test_a_constant_that_the_parser_would_change_is_refused(self, tmp_path):
        nodes = [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["wide", "c"], ["z"]),
            helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
        ]
        with pytest.raises(CompileError, match=r"constants that tensorrt_rtx would change: .*out of range"):
            build(graph(tmp_path, nodes, {"c": np.array([1e300])}), tmp_path / "e")

    @pytest.mark.parametrize(("kind", "name"), [(TensorProto.DOUBLE, "FP64"), (TensorProto.STRING, "BYTES")])
    def test_an_input_type_that_the_engine_would_not_have_is_named(self, tmp_path, kind, name):
        model = graph(tmp_path, [helper.make_node("Identity", ["x"], ["y"])], inputs=[("x", kind, ["n", 2])], output=kind)
        with pytest.raises(CompileError, match=rf"odd.onnx: x \({name}\): has a type that TensorRT does not have"):
            build(model, tmp_path / "e")

    def test_an_input_whose_values_are_sizes_is_refused(self, tmp_path):
        inputs = [("x", TensorProto.FLOAT, ["n", FEATURES]), ("shape", TensorProto.INT64, [2])]
        model = graph(tmp_path, [helper.make_node("Reshape", ["x", "shape"], ["y"])], inputs=inputs)
        with pytest.raises(CompileError, match=r"input shape: gives sizes of other tensors"):
            build(model, tmp_path / "e")

    def test_a_model_without_inputs_is_refused(self, tmp_path):
        nodes = [helper.make_node("Relu", ["c"], ["y"])]
        with pytest.raises(SourceError, match="has no inputs"):
            build(graph(tmp_path, nodes, {"c": np.ones((1, 2), np.float32)}, inputs=()), tmp_path / "e")


class TestProfiles:
    def test_the_batch_range_comes_from_the_server_and_the_rest_from_the_build(self):
        declared = {"ids": SENTENCES, "mask": SENTENCES.model_copy(update={"min": (1, 1), "opt": (4, 64), "max": (64, 512)})}
        made = profiles(TEXT, BatchSpec(max=16), declared)
        assert made["ids"].plain() == [[1, 1], [8, 64], [16, 512]]
        assert made["mask"].plain() == [[1, 1], [4, 64], [64, 512]]

    def test_an_engine_with_two_free_axes_is_built(self, tmp_path):
        model = graph(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], inputs=[("x", TensorProto.FLOAT, ["n", "length"])])
        record = build(model, tmp_path / "e", shapes=profiles(read_signature(model), BatchSpec(), {"x": SENTENCES}))
        assert record.options["profiles"] == {"x": [[1, 1], [8, 64], [32, 512]]}

    def test_a_free_axis_without_bounds_is_refused_with_an_example(self):
        example = r"ids: \{min: \[-1, 1\], opt: \[-1, 128\], max: \[-1, 128\]\}"
        with pytest.raises(CompileError, match=r"input ids \(\[-1, -1\]\): has a free axis besides the batch.*" + example):
            profiles(TEXT, BatchSpec(), {"mask": SENTENCES})
        with pytest.raises(
            CompileError, match=r"inputs ids, mask .*: have a free axis .*" + example + r", mask: \{min: \[-1, 1\]"
        ):
            profiles(TEXT, BatchSpec())
        with pytest.raises(CompileError, match=r"min: \[-1, 3, 1, 224\]"):
            profiles(IMAGE, BatchSpec())

    @pytest.mark.parametrize(
        ("profile", "words"),
        [
            ({"min": [1, 3, 1, 224], "opt": [8, 3, 9, 225], "max": [32, 3, 99, 300]}, r"axis 3 is fixed to 224"),
            ({"min": [1, 1, 1, 224], "opt": [8, 1, 9, 224], "max": [32, 1, 99, 224]}, r"axis 1 is fixed to 3"),
            ({"min": [1, 3, 1], "opt": [8, 3, 9], "max": [32, 3, 99]}, r"has 3 dimensions, but the input has 4"),
            ({"min": [1, 3, 1, 224], "opt": [8, 3, 9, 224], "max": [16, 3, 99, 224]}, r"leaves out batches .*: 1 to 32"),
        ],
    )
    def test_a_profile_that_contradicts_the_model_or_the_server_is_refused(self, profile, words):
        with pytest.raises(CompileError, match=words):
            profiles(IMAGE, BatchSpec(), {"image": ProfileSpec.parse(profile)})

    def test_a_profile_of_no_input_suggests_one(self):
        with pytest.raises(CompileError, match=r"profiles.idz: is no input of the model. Fix: did you mean 'ids'"):
            profiles(TEXT, BatchSpec(), {"idz": SENTENCES})

    def test_minus_one_needs_a_batch_axis(self):
        fixed = Signature(
            inputs=(TensorSpec(name="x", dtype="FP32", shape=(1, -1)),),
            outputs=(TensorSpec(name="y", dtype="FP32", shape=(1, 2)),),
            opset=17,
        )
        with pytest.raises(CompileError, match=r"profiles.x .*the model has none.*Write the size of that axis: 1"):
            profiles(fixed, BatchSpec(), {"x": SENTENCES})
