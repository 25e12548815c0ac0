"""A pickled or joblib estimator: of the scikit-learn that is installed, fitted, and with classes that ONNX can hold."""

import re
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from gpuserve_images.export.backends.model import FailureError, one_line

SAVED_WITH = re.compile(rb"_sklearn_version.{0,6}?\x8c.([0-9]+\.[0-9]+[0-9A-Za-z.]*)", re.DOTALL)
"""The version that every pickled estimator carries, as pickle writes two short texts one after the other."""


def read(path: Path) -> tuple[Any, str]:
    """Return the estimator in a file, and the version that saved it, which is looked at before anything in the file is run.

    Raises:
        FailureError: When it is of another scikit-learn, no estimator, or not fitted.
    """
    saved_with = _saved_with(path)
    if saved_with is not None:
        _same_version(saved_with)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator = joblib.load(path)
    except ModuleNotFoundError as error:
        reason = f"was pickled with code of the module {error.name!r}, which is not installed"
        raise FailureError(reason, "Install that module, or save a model of scikit-learn's own estimators.") from error
    except Exception as error:
        reason = f"cannot be unpickled: {type(error).__name__}: {one_line(error)}"
        raise FailureError(reason, "Save the fitted model again with joblib.dump(model, 'model.joblib').") from error
    for warning in caught:
        # What scikit-learn warns with, from its version 1.3 on, when a part of what it reads was saved by another.
        if other := getattr(warning.message, "original_sklearn_version", None):
            _same_version(str(other))
    if not (hasattr(estimator, "predict") or hasattr(estimator, "transform")):
        reason = "holds no scikit-learn estimator"
        raise FailureError(reason, "Save the fitted model itself.", value=type(estimator).__name__)
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        reason = "is not fitted"
        raise FailureError(reason, "Call fit() before you save it.", value=type(estimator).__name__) from error
    _check_classes(estimator)
    return estimator, saved_with or sklearn.__version__


def _saved_with(path: Path) -> str | None:
    found = SAVED_WITH.search(path.read_bytes())
    return found[1].decode() if found else None


def _same_version(saved_with: str) -> None:
    """Refuse another feature release: scikit-learn promises nothing for it, and a wrong answer would look like a right one."""
    if saved_with.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        reason = f"was saved by scikit-learn {saved_with}, and {sklearn.__version__} is installed, which may read it wrongly"
        release = ".".join(saved_with.split(".")[:2])
        fix = (
            f"Install 'scikit-learn=={release}.*', here or, with skl2onnx and pandas, in a Python of its own that "
            "GPUSERVE_EXPORT_PYTHON names; or save the model again."
        )
        raise FailureError(reason, fix, value=saved_with)


def _check_classes(estimator: Any) -> None:
    classes = getattr(estimator, "classes_", None) if is_classifier(estimator) else None
    if classes is None:
        return
    if isinstance(classes, list):
        reason = (
            f"classifies {len(classes)} targets at once, and ONNX would give them as a sequence, which servers cannot carry"
        )
        raise FailureError(reason, "Save one classifier per target.", value=type(estimator).__name__)
    limit = np.iinfo(np.int32)
    if classes.dtype.kind in "iu" and (int(classes.max()) > limit.max or int(classes.min()) < limit.min):
        big = max((int(label) for label in classes), key=abs)
        reason = "has a class label that does not fit INT32, in which skl2onnx keeps the labels of some estimators"
        raise FailureError(reason, "Train on labels 0, 1, 2, ... and translate them in the client.", value=str(big))
    if classes.dtype.kind == "f" and not np.array_equal(classes, classes.astype(np.int64)):
        reason = "has class labels with a fraction, and ONNX labels are whole numbers or text"
        raise FailureError(reason, "Train on whole or text labels.", value=str(classes.tolist()))
