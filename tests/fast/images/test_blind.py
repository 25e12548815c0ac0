"""Inputs that a model answers all alike: what is verified on them shows little, and is said to."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from typer.testing import CliRunner

from gpuserve.cli.main import app
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.verify.judging import blind
from gpuserve_images.verify.parity import Named, measure_constant
from gpuserve_images.verify.spec import BarsSpec

SHOWS_LITTLE = "A build that gives all 32 inputs the answer of the first would meet the bars"
NO_SIGNATURE = Signature(inputs=(), outputs=(), opset=17)
ROWS = np.random.default_rng(0)


def constant(outputs, samples=8):
    return measure_constant({4: {}, 1: outputs}, samples, Named(), NO_SIGNATURE)


def test_the_bars_tell_a_constant_from_answers_that_differ():
    found = constant({"scores": np.linspace(0, 1, 24, dtype=np.float32).reshape(8, 3)})
    assert found is not None
    assert (found.samples, found.batches, found.max_abs_error) == (8, (1,), pytest.approx(7 * 3 / 23))
    assert blind(found, BarsSpec(scaled_error=1e-4)) is None
    assert blind(found, BarsSpec(scaled_error=2.0))


def test_labels_tell_them_apart_even_without_a_bar():
    same = constant({"label": np.zeros((8, 1), np.int64)})
    other = constant({"label": np.arange(8)[:, np.newaxis]})
    assert same is not None
    assert other is not None
    assert blind(same, BarsSpec())
    assert blind(other, BarsSpec()) is None


def test_one_sample_and_outputs_whose_sizes_differ_are_left():
    assert constant({"scores": np.ones((1, 3), np.float32)}, samples=1) is None
    assert constant({"boxes": np.ones((8, 3, 4), np.float32), "sizes of boxes": np.ones((8, 2), np.int64)}) is None


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_of_the_user")
@pytest.mark.parametrize(("scaler", "little"), [(MinMaxScaler, True), (StandardScaler, False)])
def test_compile_says_it(scaler, little, tmp_path):
    import joblib

    heights = ROWS.normal(1013, 8, (200, 1))
    model = make_pipeline(scaler(), LogisticRegression()).fit(heights, (heights[:, 0] > 1013).astype(int))
    joblib.dump(model, tmp_path / "model.joblib")
    done = CliRunner().invoke(app, ["compile", str(tmp_path / "model.joblib"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (SHOWS_LITTLE in done.output) is little
