"""Models of several models, of which skl2onnx takes an answer for another one: they are refused by name."""

from collections.abc import Callable, Mapping
from typing import Any

from gpuserve_images.export.backends.model import FailureError
from gpuserve_images.export.backends.sklearn_refused import parts

_OWN = "sklearn."
_BINARY = 2
_PROBABLE = "Train members that give probabilities, such as LogisticRegression."
_SELECTED = "becomes the columns that it selects, without the model that answers behind them"


def require_members(model: Any) -> None:
    """Refuse a model whose members, or whose own labels, would be taken for something else.

    Raises:
        FailureError: Names the estimator, and its member or setting.
    """
    last = _last(model)
    if type(last).__name__ in _ENDS and hasattr(last, "predict"):
        reason, fix = _ENDS[type(last).__name__]
        raise FailureError(reason, fix, value=type(last).__name__)
    for estimator in parts(model):
        kind = type(estimator)
        if kind.__module__.startswith(_OWN) and kind.__name__ in _FAULTS and hasattr(estimator, "estimators_"):
            found, reason, fix = _FAULTS[kind.__name__](estimator) or ("", "", "")
            if reason:
                raise FailureError(reason, fix, value=f"{kind.__name__}({found})")


def _vote(estimator: Any) -> tuple[str, str, str] | None:
    """Refuse members whose label skl2onnx takes for the place of the highest number where it is not, as of one score for two classes."""
    several = len(estimator.classes_) > _BINARY
    lasts = [_last(member) for member in estimator.estimators_]
    if estimator.voting != "hard" or all(
        not _support_vectors(last) and (several or hasattr(last, "predict_proba")) for last in lasts
    ):
        return None
    reason = "counts labels, which skl2onnx takes wrongly of SVC, and between two classes of members without probabilities"
    return "voting='hard'", reason, "Train with voting='soft', or without such members."


def _one_against_rest(estimator: Any) -> tuple[str, str, str] | None:
    for member in estimator.estimators_:
        last = _last(member)
        plain = hasattr(last, "predict_proba") or (last is member and len(estimator.classes_) > _BINARY)
        if not plain or _support_vectors(last):
            return type(last).__name__, "compares the scores of its members, which skl2onnx takes for labels", _PROBABLE
    return None


def _bag(estimator: Any) -> tuple[str, str, str] | None:
    last = _last(estimator.estimators_[0])
    if hasattr(last, "predict_proba"):
        return None
    return type(last).__name__, "counts labels of members without probabilities, which skl2onnx does wrongly", _PROBABLE


def _stack(estimator: Any) -> tuple[str, str, str] | None:
    wide = {"predict_proba", *(["decision_function"] if len(estimator.classes_) > _BINARY else [])}
    for method, member in zip(estimator.stack_method_, estimator.estimators_, strict=True):
        if method not in wide:
            reason = f"takes one number of a member ({method}), where skl2onnx takes one for each class"
            return type(_last(member)).__name__, reason, _PROBABLE
    return None


def _support_vectors(classifier: Any) -> bool:
    return type(classifier).__name__ in {"SVC", "NuSVC"}


def _last(model: Any) -> Any:
    """Return the last step of a pipeline and the best model of a search, however deep; another model itself."""
    while hasattr(model, "steps") or hasattr(model, "best_estimator_"):
        model = model.steps[-1][1] if hasattr(model, "steps") else model.best_estimator_
    return model


_ENDS: Mapping[str, tuple[str, str]] = {
    "RFE": (_SELECTED, "Put that model behind it: make_pipeline(RFE(model), model)."),
    "RFECV": (_SELECTED, "Put that model behind it: make_pipeline(RFECV(model), model)."),
    "OneVsOneClassifier": ("gives a column of label numbers", "Train OneVsRestClassifier, or SVC."),
    "QuadraticDiscriminantAnalysis": (
        "gives its labels along another axis",
        "Train LinearDiscriminantAnalysis, or GaussianNB.",
    ),
}
"""What is wrong with a model that ends in an estimator, and what to do, by the name of its class in scikit-learn."""
_FAULTS: Mapping[str, Callable[[Any], tuple[str, str, str] | None]] = {
    "VotingClassifier": _vote,
    "OneVsRestClassifier": _one_against_rest,
    "BaggingClassifier": _bag,
    "StackingClassifier": _stack,
}
"""What asks a fitted model of models for a member or setting, what comes of it, and what to do."""
