"""Ensembles: what their models make of them, and every way of wiring them wrongly."""

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.layouts.served import LayoutError, ServedModel, Wishes
from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.layouts.triton_ensemble import ensemble, ensemble_config
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.layouts.wiring import wired_signature
from gpuserve_images.onnx_model.signature import Signature, TensorSpec


def signature(inputs, outputs):
    def tensors(group):
        return tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in group.items())

    return Signature(inputs=tensors(inputs), outputs=tensors(outputs), opset=17)


MODELS = {
    "crop": signature({"image": ("UINT8", (-1, -1, 3))}, {"part": ("FP32", (-1, 224, 3)), "box": ("INT32", (-1, 4))}),
    "classify": signature({"x": ("FP32", (-1, -1, 3))}, {"scores": ("FP32", (-1, 10))}),
    "describe": signature({"scores": ("FP32", (-1, 10)), "box": ("INT32", (-1, 4))}, {"text": ("BYTES", (-1, 1))}),
    "fixed": signature({"x": ("FP32", (1, 224, 3))}, {"y": ("FP32", (1, 10))}),
}
CROP = {"model": "crop", "inputs": {"image": "photo"}, "outputs": {"part": "crop", "box": "place"}}
CLASSIFY = {"model": "classify", "inputs": {"x": "crop"}, "outputs": {"scores": "likely"}}
DESCRIBE = {"model": "describe", "inputs": {"scores": "likely", "box": "place"}, "outputs": {"text": "answer"}}
GOOD = {"name": "see", "inputs": ["photo"], "outputs": ["answer", "likely"], "steps": [DESCRIBE, CROP, CLASSIFY]}


def wired(**changes):
    return wired_signature(EnsembleSpec.parse(GOOD | changes), MODELS)


def test_types_and_shapes_come_from_the_models():
    found = wired()
    assert found.inputs == (TensorSpec(name="photo", dtype="UINT8", shape=(-1, -1, 3)),)
    assert [(tensor.name, tensor.dtype) for tensor in found.outputs] == [("answer", "BYTES"), ("likely", "FP32")]


def test_a_dimension_that_one_taker_fixes_is_fixed():
    twice = [
        {"model": "classify", "inputs": {"x": "photo"}, "outputs": {"scores": "a"}},
        {"model": "fixed", "inputs": {"x": "photo"}, "outputs": {"y": "b"}},
    ]
    assert wired(inputs=["photo"], outputs=["a", "b"], steps=twice).inputs[0].shape == (1, 224, 3)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_taker_of_any_size_hides_no_two_that_want_different_ones(order):
    models = {
        name: signature({"x": ("FP32", (-1, size))}, {"y": ("FP32", (-1, size))})
        for name, size in (("any", -1), ("a", 8), ("b", 9))
    }
    steps = [{"model": name, "inputs": {"x": "raw"}, "outputs": {"y": f"of-{name}"}} for name in models]
    spec = {"name": "see", "inputs": ["raw"], "outputs": ["of-any", "of-a", "of-b"], "steps": [steps[index] for index in order]}
    words = (
        r"FP32 \[-1, [89]\] from layout.ensemble.steps\[0\].* FP32 \[-1, [89]\] wanted\): takes tensor raw with another shape"
    )
    with pytest.raises(LayoutError, match=words):
        wired_signature(EnsembleSpec.parse(spec), models)
    first = {"model": "any", "inputs": {"x": "raw"}, "outputs": {"y": "made"}}
    later = [{**step, "inputs": {"x": "made"}} for step in steps[1:]]
    chained = {"name": "see", "inputs": ["raw"], "outputs": ["of-a", "of-b"], "steps": [first, *later]}
    with pytest.raises(LayoutError, match="takes tensor made with another shape"):
        wired_signature(EnsembleSpec.parse(chained), models)


def test_triton_reads_the_steps_back():
    config = parse_config(ensemble_config(EnsembleSpec.parse(GOOD), MODELS, {"crop": 8, "classify": 4, "describe": 16}))
    assert (config.platform, config.max_batch_size) == ("ensemble", 4)
    steps = {step.model_name: step for step in config.ensemble_scheduling.step}
    assert dict(steps["describe"].input_map) == DESCRIBE["inputs"]
    assert dict(steps["crop"].output_map) == CROP["outputs"]
    assert [tuple(tensor.dims) for tensor in config.input] == [(-1, 3)]
    assert not config.HasField("dynamic_batching")
    assert not config.instance_group


def test_one_model_without_a_batch_axis_makes_an_ensemble_without_one():
    steps = [{"model": "fixed", "inputs": {"x": "photo"}, "outputs": {"y": "answer"}}]
    spec = EnsembleSpec.parse({"name": "see", "inputs": ["photo"], "outputs": ["answer"], "steps": steps})
    config = parse_config(ensemble_config(spec, MODELS, {"fixed": 8}))
    assert config.max_batch_size == 0
    assert tuple(config.input[0].dims) == (1, 224, 3)


def test_an_ensemble_reshapes_nothing_because_its_models_do():
    flat = signature({"x": ("FP32", (-1,))}, {"label": ("INT64", (-1,))})
    steps = [{"model": "flat", "inputs": {"x": "raw"}, "outputs": {"label": "answer"}}]
    spec = EnsembleSpec.parse({"name": "see", "inputs": ["raw"], "outputs": ["answer"], "steps": steps})
    config = parse_config(ensemble_config(spec, {"flat": flat}, {"flat": 8}))
    assert [(list(tensor.dims), tensor.HasField("reshape")) for tensor in (*config.input, *config.output)] == [([1], False)] * 2


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [((-1,), (2,), r"steps\[0\].inputs.x"), ((2,), (-1,), r"steps\[1\].inputs.x")],
)
def test_a_batched_tensor_of_one_axis_goes_to_no_model_without_batches(first, second, where):
    models = {name: signature({"x": ("FP32", shape)}, {"y": ("FP32", shape)}) for name, shape in (("a", first), ("b", second))}
    steps = [
        {"model": "a", "inputs": {"x": "raw"}, "outputs": {"y": "between"}},
        {"model": "b", "inputs": {"x": "between"}, "outputs": {"y": "answer"}},
    ]
    spec = EnsembleSpec.parse({"name": "see", "inputs": ["raw"], "outputs": ["answer"], "steps": steps})
    with pytest.raises(LayoutError, match=where + r" \(FP32 \[-1\]\): has one axis in [ab], .*`batch: none`"):
        ensemble_config(spec, models, {"a": 8, "b": 8})
    alone = {name: found.model_copy(update={"alone": True}) for name, found in models.items()}
    config = parse_config(ensemble_config(spec, alone, {"a": 8, "b": 8}))
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [max(first)])


def test_a_batched_label_is_answered_beside_a_model_without_batches():
    models = MODELS | {
        "mark": signature({"x": ("FP32", (-1, 224, 3))}, {"label": ("INT64", (-1,)), "y": ("FP32", (-1, 224, 3))})
    }
    steps = [
        {"model": "mark", "inputs": {"x": "raw"}, "outputs": {"y": "between", "label": "label"}},
        {"model": "fixed", "inputs": {"x": "between"}, "outputs": {"y": "answer"}},
    ]
    spec = EnsembleSpec.parse({"name": "see", "inputs": ["raw"], "outputs": ["label", "answer"], "steps": steps})
    config = parse_config(ensemble_config(spec, models, {"mark": 8, "fixed": 8}))
    assert config.max_batch_size == 0
    assert {tensor.name: tuple(tensor.dims) for tensor in config.output} == {"label": (-1, 1), "answer": (1, 10)}


def change(step, **fields):
    return [{**old, **fields} if old is step else old for old in GOOD["steps"]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": change(CROP, model="crpo")}, r"steps\[1\].model \(crpo\): is no model .* did you mean 'crop'"),
        ({"steps": change(CLASSIFY, inputs={"y": "crop"})}, r"steps\[2\].inputs \(y\): is no input of model classify.*'x'"),
        ({"steps": change(CLASSIFY, outputs={"score": "likely"})}, r"\(score\): is no output of model classify.*'scores'"),
        ({"steps": change(DESCRIBE, inputs={"scores": "likely"})}, r"steps\[0\].inputs \(\['box'\]\): leaves inputs"),
        ({"steps": change(CLASSIFY, inputs={"x": "croop"})}, r"\(croop\): takes a tensor that neither .* did you mean 'crop'"),
        ({"inputs": ["photo", "mask"]}, r"ensemble.inputs\[1\] \(mask\): is a tensor that no step takes"),
        ({"inputs": ["photo", "photo"]}, r"ensemble.inputs\[1\] \(photo\): is listed at 0 too. Fix: List each tensor once"),
        ({"outputs": ["answer", "likely", "answer"]}, r"ensemble.outputs\[2\] \(answer\): is listed at 0 too"),
        ({"inputs": ["a photo"]}, r"ensemble.inputs\[0\] \('a photo'\): is no name of a tensor.* Fix: Choose another: letters"),
        ({"steps": change(CLASSIFY, outputs={"scores": ""})}, r"steps\[2\].outputs.scores \(''\): is no name of a tensor: it is empty"),
        ({"outputs": ["answer", "colour"]}, r"ensemble.outputs\[1\] \(colour\): is a tensor that no step makes"),
        ({"steps": [CROP, CLASSIFY], "outputs": ["likely"]}, r"steps\[0\].outputs.box \(place\): makes a tensor that nothing uses"),
        ({"steps": change(CLASSIFY, outputs={"scores": "place"})}, r"\(place\): is made by layout.ensemble.steps\[1\].outputs.box too"),
        ({"steps": change(CLASSIFY, outputs={"scores": "photo"})}, r"\(photo\): is made by the request too"),
        ({"steps": change(CLASSIFY, inputs={"x": "photo"}), "outputs": ["answer", "crop"]}, r"steps\[2\].inputs.x \(.*UINT8.*\): takes tensor photo with another type"),
        (
            {"steps": change(DESCRIBE, inputs={"scores": "crop", "box": "place"})},
            r"\(FP32 \[-1, 224, 3\] .* FP32 \[-1, 10\] wanted\): takes tensor crop with another shape",
        ),
    ],
)  # fmt: skip
def test_wrong_wiring_is_refused_by_name(changes, words):
    with pytest.raises(LayoutError, match=words):
        wired(**changes)


def test_steps_that_wait_for_each_other_are_refused():
    circle = [
        {"model": "classify", "inputs": {"x": "b"}, "outputs": {"scores": "a"}},
        {"model": "classify", "inputs": {"x": "a"}, "outputs": {"scores": "b"}},
    ]
    with pytest.raises(LayoutError, match=r"\(classify -> classify -> classify\): has steps that wait for each other"):
        wired(inputs=["photo"], outputs=["answer", "likely", "a"], steps=[*GOOD["steps"], *circle])


def test_an_ensemble_is_not_named_as_one_of_its_models(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    models = {name: (ServedModel.of(name, "onnx", path, MODELS[name]), Wishes()) for name in ("crop", "classify", "describe")}
    with pytest.raises(LayoutError, match=r"\(crop\): is the name of one of its own models"):
        ensemble(EnsembleSpec.parse(GOOD | {"name": "crop"}), models)
    files, record = ensemble(EnsembleSpec.parse(GOOD), models)
    assert {"/models/see/config.pbtxt", "/models/see/1/.ensemble", "/models/crop/1/model.onnx"} <= set(files)
    assert record.inputs["crop/1/model.onnx"] == record.outputs["/models/crop/1/model.onnx"]


def test_an_ensemble_of_nothing_is_refused():
    with pytest.raises(SpecError, match="steps"):
        EnsembleSpec.parse({"name": "see", "inputs": ["a"], "outputs": ["b"], "steps": []})
