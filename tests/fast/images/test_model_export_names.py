"""Names that are the model's own mean those inputs and outputs, in whatever order they are written; no two are swapped in silence."""

import io

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpuserve_images.export.backends import sklearn_model, wire
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes
from gpuserve_images.export.tidying import tidy
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import TensorSpec

RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame({"age": RANDOM.uniform(20, 60, 200), "fare": RANDOM.uniform(0, 5, 200)})
PRICE = 10 * TABLE["age"] + TABLE["fare"]
V2 = {"float32": "FP32", "int64": "INT64"}


def loaded(estimator, tmp_path, **wishes):
    joblib.dump(estimator, tmp_path / "model.joblib")
    return sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, **wishes))


def answers(model, inputs, tmp_path):
    model.export(tmp_path / "model.onnx")
    specs = [
        [TensorSpec(name=port.name, dtype=V2[port.dtype], shape=port.shape) for port in ports]
        for ports in (model.inputs, model.outputs)
    ]
    tidy(tmp_path / "model.onnx", *specs, "model.joblib")
    return Session(tmp_path / "model.onnx").run(inputs)


def columns(*names):
    return tuple(WishedInput(name, "float32") for name in names)


@pytest.mark.parametrize("names", [("age", "fare"), ("fare", "age"), ("years", "price"), ("age", "price")])
def test_columns_are_paired_by_name_and_new_names_by_place(names, tmp_path):
    scaled = ColumnTransformer([("all", StandardScaler(), ["age", "fare"])])
    model = loaded(make_pipeline(scaled, LinearRegression()).fit(TABLE, PRICE), tmp_path, inputs=columns(*names))
    age, fare = names if "fare" not in names else ("age", "fare")
    inputs = {age: np.array([[30]], np.float32), fare: np.array([[1]], np.float32)}
    assert model.run(inputs)[0] == pytest.approx(301, rel=1e-4)
    assert answers(model, inputs, tmp_path)["prediction"] == pytest.approx(301, rel=1e-4)


@pytest.mark.parametrize("names", [("label", "probabilities"), ("probabilities", "label")])
def test_outputs_are_paired_by_name(names, tmp_path):
    rows = TABLE.to_numpy(np.float32)
    model = loaded(LogisticRegression().fit(rows, rows[:, 0] > 40), tmp_path, outputs=names)
    got = answers(model, {"input": rows[:5]}, tmp_path)
    assert {name: (array.dtype.kind, array.shape) for name, array in got.items()} == {
        "label": ("i", (5,)),
        "probabilities": ("f", (5, 2)),
    }


def test_own_names_at_other_places_among_new_ones_are_refused(tmp_path):
    estimator = LinearRegression().fit(TABLE, PRICE)
    with pytest.raises(FailureError) as caught:
        loaded(estimator, tmp_path, inputs=columns("fare", "price"))
    assert "calls its inputs age, fare, and export.inputs gives 'fare' another place" in caught.value.reason
    assert caught.value.value == "fare, price"
    with pytest.raises(FailureError, match="calls its outputs label, probabilities"):
        loaded(LogisticRegression().fit(TABLE, PRICE > 400), tmp_path, outputs=("kind", "label"))


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b:0", "x.npy"])
def test_any_name_travels_between_the_processes(name):
    stream = io.BytesIO()
    sent = {name: np.array([["größe", "a"]], object), "other": np.arange(3.0), "empty": np.zeros((0, 2), np.int64)}
    wire.send(stream, {"do": "run"}, sent)
    stream.seek(0)
    message, arrays = wire.receive(stream) or ({}, {})
    assert message == {"do": "run"}
    assert {key: (array.dtype, array.tolist()) for key, array in arrays.items()} == {
        key: (array.dtype, array.tolist()) for key, array in sent.items()
    }
