"""Missing values take the same way through an exported model's trees as through scikit-learn's own."""

from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingRegressor,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from gpuserve_images.errors import ExportError
from gpuserve_images.export.backends import sklearn_model, sklearn_trees
from gpuserve_images.export.backends.model import FailureError, Wishes
from gpuserve_images.export.exporting import export
from gpuserve_images.export.missing import require_same
from gpuserve_images.export.spec import ExportSpec
from gpuserve_images.onnx_model.session import Session

RANDOM = np.random.default_rng(0)
CLEAN = RANDOM.normal(size=(300, 4)).astype(np.float32)
CLASSES = (CLEAN[:, 1] > 0).astype(int)
SUMS = CLEAN[:, 0] + 2 * CLEAN[:, 1]
MISSING = CLEAN.copy()
MISSING[(CLASSES == 0) & (RANDOM.random(300) < 0.5), 1] = np.nan
MISSING[RANDOM.random(300) < 0.1, 2] = np.nan


@dataclass(frozen=True)
class Files:
    entry: Path
    sha256: str = "0" * 64


def exported(estimator, tmp_path):
    joblib.dump(estimator, tmp_path / "model.joblib")
    model = sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18))
    model.export(tmp_path / "model.onnx")
    return model


@pytest.mark.parametrize("trained", [CLEAN, MISSING], ids=["clean", "missing"])
@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (DecisionTreeClassifier(), CLASSES),
        (DecisionTreeRegressor(), SUMS),
        (RandomForestClassifier(5), CLASSES),
        (RandomForestRegressor(5), np.column_stack([SUMS, -SUMS])),
        (ExtraTreesClassifier(5), CLASSES),
        (IsolationForest(n_estimators=5), None),
        (BaggingRegressor(n_estimators=3), SUMS),
        (HistGradientBoostingClassifier(max_iter=3), CLASSES),
        (CalibratedClassifierCV(DecisionTreeClassifier(max_depth=1)), CLASSES),
        (StackingClassifier([("forest", RandomForestClassifier(3))], RandomForestClassifier(3)), CLASSES),
        (MultiOutputRegressor(DecisionTreeRegressor()), np.column_stack([SUMS, -SUMS])),
        (make_pipeline(ColumnTransformer([("two", StandardScaler(), [2, 1])]), RandomForestClassifier(3)), CLASSES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_missing_values(estimator, y, trained, tmp_path):
    model = exported(estimator.fit(trained, y), tmp_path)
    want = model.run({"input": MISSING})
    got = Session(tmp_path / "model.onnx").run({"input": MISSING})
    for expected, answer in zip(want, got.values(), strict=True):
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "right"),
    [
        (make_pipeline(PowerTransformer(), RandomForestRegressor(5, random_state=0)), False),
        (make_pipeline(SimpleImputer(), PowerTransformer(), RandomForestRegressor(5, random_state=0)), True),
        (make_pipeline(StandardScaler(), RandomForestRegressor(5, random_state=0)), True),
        (make_pipeline(KNNImputer(), Ridge()), True),
    ],
    ids=["power", "imputed", "scaled", "neighbours"],
)
def test_rows_with_a_missing_number_are_asked(estimator, right, tmp_path):
    model = exported(estimator.fit(MISSING, SUMS), tmp_path)
    rows = model.missing()
    assert np.isnan(rows["input"]).sum(axis=1).tolist() == [0, 1] * 4
    source, answers = {"y": model.run(rows)[0]}, {"y": next(iter(Session(tmp_path / "model.onnx").run(rows).values()))}
    if right:
        require_same(source, answers, "model.joblib")
        return
    with pytest.raises(ExportError, match=r"answers rows with a missing number otherwise as ONNX: y \["):
        require_same(source, answers, "model.joblib")


def test_a_model_that_refuses_missing_numbers_is_not_asked(tmp_path):
    assert exported(Ridge().fit(CLEAN, SUMS), tmp_path).missing() == {}


@pytest.mark.slow
def test_an_export_that_answers_missing_numbers_otherwise_is_refused(tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(make_pipeline(PowerTransformer(), RandomForestRegressor(5, random_state=0)).fit(MISSING, SUMS), path)
    with pytest.raises(ExportError, match="missing number otherwise"):
        export(Files(path), "sklearn", ExportSpec(), tmp_path / "model.onnx", folder=tmp_path)


def test_splits_by_categories_are_refused(tmp_path):
    rows = np.column_stack([RANDOM.integers(0, 12, 300), CLEAN[:, 0]])
    estimator = HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]).fit(rows, rows[:, 0] * 7 % 5 > 2)
    with pytest.raises(FailureError, match="split by categories") as caught:
        exported(estimator, tmp_path)
    assert caught.value.value == "categorical_features"


def test_a_skl2onnx_that_writes_trees_in_another_way_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sklearn_trees, "_WRITER", "renamed")
    with pytest.raises(FailureError, match="would lose where its trees send missing values"):
        exported(DecisionTreeClassifier().fit(MISSING, CLASSES), tmp_path)
