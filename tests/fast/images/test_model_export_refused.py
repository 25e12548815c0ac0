"""Settings of scikit-learn that the exported model would lose are refused by name, however deep the estimator sits."""

import joblib
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingRegressor, GradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import PoissonRegressor, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 3)).astype(np.float32)
MISSING = np.where(RANDOM.random(X.shape) < 0.2, np.nan, X).astype(np.float32)
EMPTY = np.column_stack([MISSING[:, :2], np.full(120, np.nan)]).astype(np.float32)
Y = X[:, 0] + 2 * X[:, 1]
COUNTS = np.exp(Y / 3)
THREE = np.digitize(Y, [-1, 1])
CODES = RANDOM.choice([1, 2, 3], (120, 1)).astype(np.float32)
CODES_MISSING = np.where(RANDOM.random(CODES.shape) < 0.2, np.nan, CODES).astype(np.float32)
COLOURS = RANDOM.choice(["red", "blue", "rare"], (120, 1), p=[0.6, 0.35, 0.05]).astype(object)
TEXT = (WishedInput("input", "object"),)


def exported(estimator, tmp_path, inputs=()):
    joblib.dump(estimator, tmp_path / "model.joblib")
    sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=inputs)).export(tmp_path / "model.onnx")


WITH_INDICATOR = SimpleImputer(add_indicator=True)


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.parametrize(
    ("estimator", "x", "y", "named"),
    [
        (make_pipeline(WITH_INDICATOR, Ridge()), MISSING, Y, "SimpleImputer(add_indicator=True)"),
        (make_pipeline(KNNImputer(add_indicator=True), Ridge()), MISSING, Y, "KNNImputer(add_indicator=True)"),
        (make_pipeline(make_union(WITH_INDICATOR), Ridge()), MISSING, Y, "SimpleImputer(add_indicator=True)"),
        (
            make_pipeline(ColumnTransformer([("some", make_pipeline(WITH_INDICATOR), [0, 1])]), Ridge()),
            MISSING,
            Y,
            "SimpleImputer(add_indicator=True)",
        ),
        (BaggingRegressor(make_pipeline(WITH_INDICATOR, Ridge()), 2), MISSING, Y, "SimpleImputer(add_indicator=True)"),
        (
            GridSearchCV(make_pipeline(SimpleImputer(), Ridge()), {"simpleimputer__add_indicator": [True]}, cv=2),
            MISSING,
            Y,
            "SimpleImputer(add_indicator=True)",
        ),
        (make_pipeline(SimpleImputer(), Ridge()), EMPTY, Y, "SimpleImputer(empty column)"),
        (make_pipeline(KNNImputer(keep_empty_features=True), Ridge()), EMPTY, Y, "KNNImputer(empty column)"),
        (HistGradientBoostingRegressor(loss="poisson", max_iter=3), X, COUNTS, "HistGradientBoostingRegressor(loss='poisson')"),
        (
            BaggingRegressor(HistGradientBoostingRegressor(loss="gamma", max_iter=3), 2),
            X,
            COUNTS,
            "HistGradientBoostingRegressor(loss='gamma')",
        ),
        (make_pipeline(Normalizer("max"), Ridge()), X, Y, "Normalizer(norm='max')"),
        (SGDClassifier(loss="modified_huber"), X, THREE, "SGDClassifier(loss='modified_huber')"),
        (GradientBoostingClassifier(init="zero", n_estimators=2), X, THREE, "GradientBoostingClassifier(init='zero')"),
        (make_pipeline(OrdinalEncoder(), Ridge()), CODES, Y, None),
        (OrdinalEncoder(), CODES_MISSING, None, "OrdinalEncoder(NaN in categories_)"),
        (make_pipeline(TargetEncoder(), Ridge()), CODES_MISSING, Y, "TargetEncoder(NaN in categories_)"),
        (make_pipeline(WITH_INDICATOR, Ridge()), X, Y, None),
        (
            GridSearchCV(make_pipeline(WITH_INDICATOR, Ridge()), {"simpleimputer__add_indicator": [False]}, cv=2),
            MISSING,
            Y,
            None,
        ),
        (HistGradientBoostingRegressor(max_iter=3), X, COUNTS, None),
        (PoissonRegressor(), X, COUNTS, None),
        (make_pipeline(StandardScaler(), Normalizer(), SGDClassifier(loss="modified_huber")), X, THREE > 0, None),
    ],
    ids=lambda value: str(value)[:60] if value is None or isinstance(value, str) else "",
)
def test_a_setting_that_would_be_lost(estimator, x, y, named, tmp_path):
    estimator.fit(x, y)
    if named is None:
        exported(estimator, tmp_path)
        return
    with pytest.raises(FailureError) as caught:
        exported(estimator, tmp_path)
    assert caught.value.value == named


@pytest.mark.parametrize(
    ("encoder", "named"),
    [
        (OneHotEncoder(handle_unknown="infrequent_if_exist"), "OneHotEncoder(handle_unknown='infrequent_if_exist')"),
        (OneHotEncoder(min_frequency=20), "OneHotEncoder(min_frequency=20)"),
        (OrdinalEncoder(max_categories=2), "OrdinalEncoder(max_categories=2)"),
        (OneHotEncoder(min_frequency=1), None),
        (OneHotEncoder(drop="first", handle_unknown="ignore"), None),
    ],
    ids=str,
)
def test_an_encoder_whose_rare_categories_would_be_lost(encoder, named, tmp_path):
    encoder.fit(COLOURS)
    if named is None:
        exported(encoder, tmp_path, TEXT)
        return
    with pytest.raises(FailureError) as caught:
        exported(encoder, tmp_path, TEXT)
    assert caught.value.value == named
