"""Each stage alone, over files: optimise, quantise."""

from collections import Counter

import onnx
import pytest
from e2e_graphs import random_samples, written
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.graph import level_for, optimise
from gpuserve_images.optimise.kept import heads
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.records import sha256_file
from gpuserve_images.target import Target
from gpuserve_images.verify.parity import measure, reference_outputs

CPU, GPU = Target("cpu"), Target("gpu")
STATIC = CalibrateSpec.parse({"inputs": "samples"})


@pytest.fixture
def source(tmp_path):
    return written(classifier(), tmp_path)


@pytest.fixture
def samples():
    return random_samples()


def operators(path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


class TestOptimise:
    @pytest.mark.parametrize("level", ["none", "basic", "extended"])
    def test_same_answers_and_interface(self, source, samples, tmp_path, level):
        out = tmp_path / "out.onnx"
        record = optimise(source, out, level)
        assert record.outputs == {"out.onnx": sha256_file(out)}
        assert read_signature(out).same_interface(read_signature(source))
        assert measure(out, reference_outputs(source, samples, (1, 8)), samples).max_abs_error < 1e-6

    def test_the_same_bytes_each_time(self, source, tmp_path):
        outputs = [optimise(source, tmp_path / name, "extended").outputs[name] for name in ("a.onnx", "b.onnx")]
        assert outputs[0] == outputs[1]

    def test_basic_keeps_to_standard_operators(self, source, tmp_path):
        out = tmp_path / "out.onnx"
        optimise(source, out, level_for("auto", GPU))
        check(out)
        assert {node.domain for node in onnx.load(out).graph.node} <= {"", "ai.onnx"}

    def test_auto_depends_on_the_target(self):
        assert (level_for("auto", CPU), level_for("auto", GPU), level_for("none", CPU)) == ("extended", "basic", "none")
        # Fused operators hide from the conversion what FP16 breaks.
        assert level_for("auto", CPU, "fp16") == "basic"

    def test_an_operator_that_the_runtime_lacks_is_named(self, tmp_path):
        model = classifier()
        model.graph.node[2].op_type = "NoSuchOperator"
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(SourceError, match=r"does not know: NoSuchOperator \(the node that makes 'h3'\)"):
            optimise(tmp_path / "odd.onnx", tmp_path / "out.onnx", "basic")


class TestQuantise:
    @pytest.mark.parametrize(("target", "zero_point"), [(CPU, TensorProto.UINT8), (GPU, TensorProto.INT8)])
    def test_static_puts_qdq_pairs_with_weights_per_channel(self, source, samples, tmp_path, target, zero_point):
        out = tmp_path / "out.onnx"
        record = quantise_static(source, out, samples, STATIC, target)
        graph = onnx.load(out).graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        quantised = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        assert quantised
        assert constants[quantised[0].input[2]].data_type == zero_point
        assert any(list(tensor.dims) == [32] and "scale" in name for name, tensor in constants.items())
        assert record.options["kept_in_fp32"] == ["head"]
        check(out)

    def test_the_head_can_be_quantised_too(self, source, samples, tmp_path):
        out = tmp_path / "out.onnx"
        record = quantise_static(source, out, samples, STATIC.model_copy(update={"keep_head": False}), CPU)
        assert record.options["kept_in_fp32"] == []
        assert operators(out)["QuantizeLinear"] > 1

    @pytest.mark.parametrize("method", ["percentile", "minmax", "entropy"])
    def test_every_method_stays_near_the_source(self, source, samples, tmp_path, method):
        out = tmp_path / "out.onnx"
        quantise_static(source, out, samples, STATIC.model_copy(update={"method": method}), CPU)
        parity = measure(out, reference_outputs(source, samples, (8,)), samples)
        assert parity.top1_agreement >= 0.9
        assert 0 < parity.max_abs_error < 0.5

    def test_dynamic_quantises_the_weights(self, source, samples, tmp_path):
        out = tmp_path / "out.onnx"
        assert quantise_dynamic(source, out).options["mode"] == "dynamic"
        assert operators(out)["MatMulInteger"] == 2
        assert measure(out, reference_outputs(source, samples, (8,)), samples).top1_agreement >= 0.9

    def test_the_same_bytes_each_time(self, source, samples, tmp_path):
        hashes = {quantise_static(source, tmp_path / name, samples, STATIC, CPU).outputs[name] for name in ("a", "b")}
        assert len(hashes) == 1

    def test_nothing_to_quantise_is_an_error(self, tmp_path, samples):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [value("x", TensorProto.FLOAT, ["n", FEATURES])],
            [value("y", TensorProto.FLOAT, ["n", FEATURES])],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "relu.onnx")
        for stage in (
            lambda: quantise_static(tmp_path / "relu.onnx", tmp_path / "o", samples, STATIC, CPU),
            lambda: quantise_dynamic(tmp_path / "relu.onnx", tmp_path / "o"),
        ):
            with pytest.raises(SourceError, match=r"\(Relu\): has none of the operators"):
                stage()

    def test_a_single_layer_is_quantised_although_it_is_the_head(self, tmp_path):
        model = classifier()
        del model.graph.node[3:]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("h3", TensorProto.FLOAT, ["batch", 32]))
        assert heads(model) == []


def test_a_session_runs_one_thread_when_told(source, samples):
    assert Session(source, threads=1).run(samples[0])["scores"].shape == (1, 4)
