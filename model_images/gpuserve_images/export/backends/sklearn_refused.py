"""Settings of scikit-learn's estimators that skl2onnx exports to something else without a word: they are refused by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator

from gpuserve_images.export.backends.model import FailureError

_Fault: TypeAlias = tuple[str, str, str]
"""A setting as its user wrote it, what comes of it, and what to do."""
_OWN = "sklearn."
_BINARY = 2
_ENCODER = "Join rare categories before the encoder."


def require_exportable(model: Any) -> None:
    """Refuse a model in which any fitted estimator, however deep, has a setting that its exported form loses.

    Raises:
        FailureError: Names the estimator and its setting.
    """
    for estimator in parts(model):
        for kind in type(estimator).__mro__:
            known = kind.__module__.startswith(_OWN) and kind.__name__ in _FAULTS
            fault = _FAULTS[kind.__name__](estimator) if known else None
            if fault is not None:
                setting, reason, fix = fault
                raise FailureError(reason, fix, value=f"{type(estimator).__name__}({setting})")


def parts(model: Any) -> Iterator[Any]:
    """Yield all estimators that a model holds, fitted or not, itself too: steps, columns' transformers, members, the best of a search."""
    waiting, seen = [model], {id(model)}
    while waiting:
        current = waiting.pop()
        if isinstance(current, BaseEstimator):
            yield current
        for inner in _inside(current):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return list(value)
    own = isinstance(value, BaseEstimator) or type(value).__module__.startswith(_OWN)
    return list(getattr(value, "__dict__", {}).values()) if own else []


def _imputer(estimator: Any) -> _Fault | None:
    indicator = getattr(estimator, "indicator_", None)
    if indicator is not None and len(indicator.features_):
        reason = "adds columns that say what was missing, which skl2onnx leaves out"
        return "add_indicator=True", reason, "Train with add_indicator=False."
    count = getattr(estimator, "n_features_in_", None)
    empty = count is not None and len(estimator.get_feature_names_out()) != count
    masked = getattr(estimator, "_valid_mask", None)
    if empty or (masked is not None and not masked.all()):
        reason = "was fitted on a column without any value, which skl2onnx does not treat as scikit-learn does"
        return "empty column", reason, "Train without that column."
    return None


def _histogram_regressor(estimator: Any) -> _Fault | None:
    if estimator.loss not in {"poisson", "gamma"}:
        return None
    reason = "predicts the logarithm as ONNX: skl2onnx leaves out the exponential that this loss ends in"
    fix = f"Train LightGBM (objective='{estimator.loss}') or XGBoost, or train on the logarithm with loss='squared_error'."
    return f"loss={estimator.loss!r}", reason, fix


def _normalizer(estimator: Any) -> _Fault | None:
    if estimator.norm != "max":
        return None
    return "norm='max'", "divides by the largest value as ONNX, and not by the largest size", "Train with norm='l2' or 'l1'."


def _linear_by_descent(estimator: Any) -> _Fault | None:
    if estimator.loss != "modified_huber" or not _several(estimator):
        return None
    reason = "has probabilities of 1 for several classes at once, among which skl2onnx takes another label"
    return "loss='modified_huber'", reason, "Train with loss='log_loss'."


def _boosted_classifier(estimator: Any) -> _Fault | None:
    if estimator.init != "zero" or not _several(estimator):
        return None
    return "init='zero'", "becomes an ONNX file that ONNX Runtime does not load", "Train with init=None."


def _several(classifier: Any) -> bool:
    """Return whether a classifier was fitted on more classes than two."""
    return len(getattr(classifier, "classes_", ())) > _BINARY


def _one_hot(estimator: Any) -> _Fault | None:
    if estimator.handle_unknown in {"infrequent_if_exist", "warn"} and hasattr(estimator, "categories_"):
        reason = "has no ONNX form: the exported model fails at a category that it does not know"
        return f"handle_unknown={estimator.handle_unknown!r}", reason, "Train with handle_unknown='ignore'."
    return _infrequent(estimator)


def _ordinal(estimator: Any) -> _Fault | None:
    return _infrequent(estimator) or _missing_category(estimator)


def _infrequent(estimator: Any) -> _Fault | None:
    if all(found is None for found in getattr(estimator, "infrequent_categories_", ())):
        return None
    setting = "min_frequency" if estimator.min_frequency is not None else "max_categories"
    return f"{setting}={getattr(estimator, setting)!r}", "joins rare categories, which skl2onnx does not", _ENCODER


def _missing_category(estimator: Any) -> _Fault | None:
    for values in getattr(estimator, "categories_", ()):
        if values.dtype.kind == "f" and np.isnan(values).any():
            reason = "has learned a code for missing numbers, which skl2onnx loses"
            return "NaN in categories_", reason, "Put SimpleImputer(strategy='constant', fill_value=-1) before it."
    return None


def _weights(estimator: Any) -> _Fault | None:
    if not estimator.sublinear_tf:
        return None
    reason = "weighs a count by 1 + log(count), for which skl2onnx writes log(1 + count)"
    return "sublinear_tf=True", reason, "Train with sublinear_tf=False, or with binary=True."


def _neighbours(estimator: Any) -> _Fault | None:
    if estimator.weights != "distance":
        return None
    return "weights='distance'", "weighs neighbours by distance, which skl2onnx loses", "Train with weights='uniform'."


_FAULTS: Mapping[str, Callable[[Any], _Fault | None]] = {
    "_BaseImputer": _imputer,
    "HistGradientBoostingRegressor": _histogram_regressor,
    "Normalizer": _normalizer,
    "SGDClassifier": _linear_by_descent,
    "GradientBoostingClassifier": _boosted_classifier,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "TargetEncoder": _missing_category,
    "TfidfTransformer": _weights,
    "TfidfVectorizer": _weights,
    "KNeighborsClassifier": _neighbours,
    "KNeighborsRegressor": _neighbours,
}
"""What asks an estimator for a fault, by the name of its class in scikit-learn."""
