"""Casts behind transposes: what ends the process in ONNX Runtime 1.31 loads once they are exchanged, and answers the same."""

import numpy as np
import onnx
import pytest

from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.trial import fatal
from gpuserve_images.optimise.exchanged import exchanged
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.shapes import with_shapes

HALF = "small = Cast<to=10>(x) w16 = Cast<to=10>(w) turned = Transpose<perm=[1,0,2]>(small) "
FATAL = {
    "a product in FP16": HALF + "p = MatMul(turned, w16) y = Cast<to=1>(p)",
    "on the right": HALF + "p = MatMul(w16, turned) y = Cast<to=1>(p)",
    "the last two axes turned too": HALF.replace("1,0,2", "1,2,0") + "p = MatMul(turned, w16) y = Cast<to=1>(p)",
    "a cast in the model": HALF + "wide = Cast<to=1>(turned) y = MatMul(wide, w)",
    "doubles": "turned = Transpose<perm=[1,0,2]>(x) d = Cast<to=11>(turned) w64 = Cast<to=11>(w) p = MatMul(d, w64) y = Cast<to=1>(p)",
    "whole numbers": "i = Cast<to=7>(x) turned = Transpose<perm=[1,0,2]>(i) wide = Cast<to=1>(turned) y = MatMul(wide, w)",
    "several readers": HALF
    + "p = MatMul(turned, w16) q = MatMul(turned, w16) r = Relu(turned) s = Add(p, q) t = Add(s, r) y = Cast<to=1>(t)",
    "in a branch": "c = Constant<value_float=1.0>() b = Cast<to=9>(c) "
    "y = If(b) <then_branch = yes () => (float[a,b,c] z) {" + HALF + "p = MatMul(turned, w16) z = Cast<to=1>(p)},"
    " else_branch = no () => (float[a,b,c] z) {z = Identity(x)}>",
}
HARMLESS = {
    "FP32 throughout": "turned = Transpose<perm=[1,0,2]>(x) y = MatMul(turned, w)",
    "another order": HALF.replace("1,0,2", "0,2,1") + "p = MatMul(turned, w16) y = Cast<to=1>(p)",
    "the default order": HALF.replace("<perm=[1,0,2]>", "") + "p = MatMul(turned, w16) y = Cast<to=1>(p)",
    "the same rank": HALF + "p = MatMul(turned, small) y = Cast<to=1>(p)",
}


def model_of(text: str) -> onnx.ModelProto:
    made = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g (float[4,4,4] x) => (float[a,b,c] y) <float[4,4] w = {{{",".join(map(str, range(16)))}}}>'
        f" {{{text}}}"
    )
    onnx.checker.check_model(made)
    return made


def written(model: onnx.ModelProto, path):
    onnx.save(model, path)
    return path


def answer(path, optimisation=None):
    values = np.random.default_rng(5).integers(-4, 5, size=(4, 4, 4)).astype(np.float32)
    return Session(path, threads=1, optimise=optimisation).run({"x": values})["y"]


@pytest.mark.parametrize("name", FATAL)
def test_a_model_that_ends_the_process_loads_and_answers_the_same(tmp_path, name):
    source = written(model_of(FATAL[name]), tmp_path / "source.onnx")
    assert fatal(source) == "SIGSEGV", "ONNX Runtime has mended it: `optimise.exchanged` can go"
    mended = written(exchanged(with_shapes(onnx.load(source))), tmp_path / "mended.onnx")
    onnx.checker.check_model(onnx.load(mended), full_check=True)
    assert fatal(mended) is None
    np.testing.assert_array_equal(answer(mended), answer(source, "ORT_DISABLE_ALL"))


@pytest.mark.parametrize("name", HARMLESS)
def test_other_transposes_stay_where_they_are(tmp_path, name):
    before = with_shapes(model_of(HARMLESS[name]))
    assert fatal(written(before, tmp_path / "source.onnx")) is None
    assert exchanged(onnx.ModelProto.FromString(before.SerializeToString())) == before


@pytest.mark.parametrize("level", ["none", "basic", "extended"])
def test_optimisation_of_any_level_mends_it(tmp_path, level):
    source = written(model_of(FATAL["a cast in the model"]), tmp_path / "source.onnx")
    optimise(source, tmp_path / "out.onnx", level)
    assert fatal(tmp_path / "out.onnx") is None
    np.testing.assert_array_equal(answer(tmp_path / "out.onnx"), answer(source, "ORT_DISABLE_ALL"))


def test_fp16_of_a_harmless_model_is_harmless(tmp_path):
    source = written(model_of(HARMLESS["FP32 throughout"]), tmp_path / "source.onnx")
    to_fp16(source, tmp_path / "out.onnx")
    assert fatal(tmp_path / "out.onnx") is None
    np.testing.assert_array_equal(answer(tmp_path / "out.onnx"), answer(source))
