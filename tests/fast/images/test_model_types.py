"""Numbers and truth values of a model file are what the schema, and with it the editor, says they are."""

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.spec import ModelSpec

MODEL = {"name": "m", "source": {"file": "a.onnx"}, "builds": {"cpu": {"engine": "onnxruntime"}}}


@pytest.mark.parametrize(
    ("section", "field", "value", "fix"),
    [
        ({"batch": {"max": "8"}}, "batch.max", "8", "write 8, without quotes"),
        ({"batch": {"max": True}}, "batch.max", True, "write a whole number"),
        ({"batch": {"max": 8.5}}, "batch.max", 8.5, "write a whole number"),
        ({"batch": {"preferred": ["4"]}}, "batch.preferred[0]", "4", "write 4, without quotes"),
        ({"verify": {"generate": {"count": True}}}, "verify.generate.count", True, "write a whole number"),
        ({"verify": {"generate": {"shapes": {"a": [1, "2"]}}}}, "verify.generate.shapes.a[1]", "2", "write 2, without quotes"),
        ({"verify": {"inputs": [{"folder": "x", "limit": "3"}]}}, "verify.inputs[0].limit", "3", "write 3, without quotes"),
        ({"layout": {"instances": "2"}}, "layout.instances", "2", "without quotes, such as 2"),
        ({"layout": {"instances": True}}, "layout.instances", True, "without quotes, such as 2"),
        ({"layout": {"versions": {"only": ["1"]}}}, "layout.versions.only[0]", "1", "write 1, without quotes"),
        ({"layout": {"response_cache": "on"}}, "layout.response_cache", "on", "`true` or `false`"),
        ({"layout": {"threads": {"intra_op": "2"}}}, "layout.threads.intra_op", "2", "write 2, without quotes"),
        ({"bake": {"uploads": "4"}}, "bake.uploads", "4", "write 4, without quotes"),
        ({"export": {"opset": "18"}}, "export.opset", "18", "write 18, without quotes"),
        ({"export": {"batch": 1}}, "export.batch", 1, "`true` or `false`"),
    ],
)
def test_text_and_truth_values_are_no_numbers(section, field, value, fix):
    with pytest.raises(SpecError) as caught:
        ModelSpec.parse(MODEL | section)
    (problem,) = caught.value.problems
    assert (problem.field, problem.value) == (field, value)
    assert fix in problem.fix


def test_whole_numbers_come_back_from_pulumis_engine_as_floats():
    given = MODEL | {"batch": {"max": 8.0}, "layout": {"versions": {"only": [1.0]}, "numbers": {"1": "cpu"}}}
    model = ModelSpec.parse(given)
    assert (model.batch.max, model.layout.versions.only, dict(model.layout.numbers)) == (8, (1,), {1: "cpu"})
    assert isinstance(model.batch.max, int)
