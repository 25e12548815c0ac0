"""Calibrated classifiers: they are calibrated on scores, for which skl2onnx has to be asked where they stand at a pipeline's end."""

from collections.abc import Iterator
from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from gpuserve_images.export.backends.model import FailureError
from gpuserve_images.export.backends.sklearn_refused import parts

_SCORES = "raw_scores"
_KIND = "CalibratedClassifierCV"


def score_options(model: Any) -> dict[int, dict[str, bool]]:
    """Return the options of skl2onnx, by estimator, with which pipelines give the scores that they are calibrated on.

    Raises:
        FailureError: When a calibration, or the scores that it begins with, would be others as ONNX.
    """
    options: dict[int, dict[str, bool]] = {}
    for calibrated in parts(model):
        if isinstance(calibrated, CalibratedClassifierCV) and hasattr(calibrated, "calibrated_classifiers_"):
            if calibrated.method != "sigmoid":
                reason = "takes the answer of the nearest score that it was fitted on as ONNX, and not one between two"
                if calibrated.method != "isotonic":
                    reason = "is calibrated in a way that skl2onnx does not know"
                raise FailureError(reason, "Train with method='sigmoid'.", value=f"{_KIND}(method={calibrated.method!r})")
            for scoring in _scoring(calibrated):
                options[id(scoring)] = {_SCORES: True}
    return options


def _scoring(calibrated: Any) -> Iterator[Any]:
    """Yield the classifiers that give scores, inside of pipelines."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter

    for fitted in calibrated.calibrated_classifiers_:
        last = fitted.estimator
        while isinstance(last, Pipeline):
            last = last.steps[-1][1]
        if not hasattr(last, "decision_function"):
            continue
        alias = sklearn_operator_name_map.get(type(last))
        both = getattr(last, "probability", False) is True  # of support vectors, where the option is lost
        if both or alias is None or _SCORES not in (get_converter(alias).get_allowed_options() or {}):
            reason = "is calibrated on its scores, and skl2onnx gives its probabilities only"
            fix = "Calibrate LogisticRegression, LinearSVC, or RandomForestClassifier, or leave the calibration out."
            raise FailureError(reason, fix, value=f"{_KIND}({type(last).__name__})")
        if last is not fitted.estimator:
            yield last
