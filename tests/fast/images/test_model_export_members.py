"""Models that scikit-learn makes of several: exported as they answer, or refused by name."""

import joblib
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeRegressor

from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import FailureError, Wishes
from gpuserve_images.onnx_model.session import Session

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(150, 4))
SUM = X[:, 0] + X[:, 1] / 2
TWO = np.array(["no", "yes"])[(SUM > 0).astype(int)]
THREE = np.digitize(SUM, [-0.6, 0.6])
OTHERS = RANDOM.normal(size=(60, 4)).astype(np.float32) * 2


def scaled(model):
    return make_pipeline(StandardScaler(), model)


def members():
    return [("tree", RandomForestClassifier(4, random_state=0)), ("off", "drop"), ("line", LogisticRegression())]


REGRESSORS = [("line", Ridge()), ("off", "drop"), ("tree", DecisionTreeRegressor(max_depth=2))]


def exported(estimator, y, tmp_path):
    joblib.dump(estimator.fit(X, y), tmp_path / "model.joblib")
    model = sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18))
    model.export(tmp_path / "model.onnx")
    return model


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (scaled(LinearSVC()), TWO),
        (scaled(LinearSVC()), THREE),
        (VotingClassifier(members(), voting="soft"), TWO),
        (VotingClassifier(members(), voting="hard"), THREE),
        (VotingClassifier(members(), voting="soft", weights=[1, 9, 3]), THREE),
        (VotingClassifier([*members(), ("ridge", RidgeClassifier())], voting="hard"), THREE),
        (VotingRegressor(REGRESSORS, weights=[1, 9, 3]), SUM),
        (make_pipeline(KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"), Ridge()), SUM),
        (CalibratedClassifierCV(scaled(LogisticRegression()), cv=2), TWO),
        (CalibratedClassifierCV(scaled(scaled(LinearSVC())), cv=2), TWO),
        (CalibratedClassifierCV(scaled(LinearSVC()), cv=2, ensemble=False), THREE),
        (CalibratedClassifierCV(scaled(SVC()), cv=2), TWO),
        (CalibratedClassifierCV(scaled(GaussianNB()), cv=2), TWO),
        (scaled(CalibratedClassifierCV(RidgeClassifier(), cv=2)), THREE),
        (OneVsRestClassifier(scaled(LogisticRegression())), THREE),
        (StackingClassifier([("line", scaled(LinearSVC()))], cv=2), THREE),
        (BaggingClassifier(scaled(LogisticRegression()), 2), TWO),
        (KMeans(3, n_init=1, random_state=0), None),
        (scaled(KMeans(3, n_init=1, random_state=0)), None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:Attribute `prob:FutureWarning")
def test_answers_are_those_of_scikit_learn(estimator, y, tmp_path):
    model = exported(estimator, y, tmp_path)
    session = Session(tmp_path / "model.onnx")
    for rows in (OTHERS[:1], OTHERS):
        for port, want, got in zip(
            model.outputs, model.run({"input": rows}), session.run({"input": rows}).values(), strict=True
        ):
            assert got.shape == want.shape
            if want.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5, err_msg=port.name)
            else:
                assert list(got) == list(want), port.name


def test_a_model_is_as_before_after_its_export(tmp_path):
    voting = VotingClassifier(members(), voting="soft", weights=[1, 9, 3])
    model = exported(voting, TWO, tmp_path)
    assert model._estimator.get_params()["flatten_transform"] is True
    assert model._estimator.weights == [1, 9, 3]


@pytest.mark.parametrize(
    ("estimator", "y", "named"),
    [
        (VotingClassifier([("svc", SVC())], voting="hard"), THREE, "VotingClassifier(voting='hard')"),
        (VotingClassifier([*members(), ("svc", scaled(LinearSVC()))]), TWO, "VotingClassifier(voting='hard')"),
        (OneVsRestClassifier(scaled(SVC())), THREE, "OneVsRestClassifier(SVC)"),
        (OneVsRestClassifier(LinearSVC()), TWO, "OneVsRestClassifier(LinearSVC)"),
        (OneVsOneClassifier(LogisticRegression()), THREE, "OneVsOneClassifier"),
        (scaled(QuadraticDiscriminantAnalysis()), THREE, "QuadraticDiscriminantAnalysis"),
        (BaggingClassifier(scaled(LinearSVC()), 2), THREE, "BaggingClassifier(LinearSVC)"),
        (StackingClassifier([("line", scaled(LinearSVC()))], cv=2), TWO, "StackingClassifier(LinearSVC)"),
        (
            StackingClassifier([("line", LogisticRegression())], cv=2, stack_method="predict"),
            THREE,
            "StackingClassifier(LogisticRegression)",
        ),
        (RFE(Ridge(), n_features_to_select=2), SUM, "RFE"),
        (scaled(RFE(LogisticRegression(), n_features_to_select=2)), TWO, "RFE"),
        (KNeighborsClassifier(weights="distance"), THREE, "KNeighborsClassifier(weights='distance')"),
        (scaled(KNeighborsRegressor(weights="distance")), SUM, "KNeighborsRegressor(weights='distance')"),
        (CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2), TWO, "CalibratedClassifierCV(method='isotonic')"),
        (
            CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=2),
            TWO,
            "CalibratedClassifierCV(method='temperature')",
        ),
        (
            CalibratedClassifierCV(QuadraticDiscriminantAnalysis(), cv=2),
            TWO,
            "CalibratedClassifierCV(QuadraticDiscriminantAnalysis)",
        ),
        (
            GridSearchCV(BaggingClassifier(RidgeClassifier(), 2), {"n_estimators": [2]}, cv=2),
            TWO,
            "BaggingClassifier(RidgeClassifier)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_would_answer_otherwise(estimator, y, named, tmp_path):
    with pytest.raises(FailureError) as caught:
        exported(estimator, y, tmp_path)
    assert caught.value.value == named
