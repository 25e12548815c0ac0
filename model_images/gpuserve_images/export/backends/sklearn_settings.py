"""Settings that change no answer and that skl2onnx nevertheless stops at: they are other ones while it writes."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from gpuserve_images.export.backends.sklearn_refused import parts

_Settings: TypeAlias = dict[str, Any]
_OWN = "sklearn."
_OPTION = "zipmap"
_NO_TEXT = "\ufdd0"
"""A code point that Unicode keeps out of texts."""


@contextmanager
def convertible(model: Any) -> Generator[None]:
    """Give all estimators of a model the settings that skl2onnx knows, for as long as it writes; the model is as before afterwards."""
    before: list[tuple[Any, _Settings]] = []
    with _support_vectors_in_pipelines():
        try:
            for estimator, settings in _wanted(model):
                before.append((estimator, {name: getattr(estimator, name) for name in settings}))
                vars(estimator).update(settings)
            yield
        finally:
            for estimator, settings in before:
                vars(estimator).update(settings)


def _wanted(model: Any) -> Iterator[tuple[Any, _Settings]]:
    for estimator in list(parts(model)):
        kind = type(estimator)
        if kind.__module__.startswith(_OWN) and kind.__name__ in _SETTINGS:
            yield estimator, _SETTINGS[kind.__name__](estimator)


@contextmanager
def _support_vectors_in_pipelines() -> Generator[None]:
    """Let LinearSVC have the option that skl2onnx gives every classifier at the end of a pipeline, and that it ignores here."""
    from skl2onnx.common._registration import get_converter

    options = get_converter("SklearnLinearSVC").get_allowed_options()
    new = _OPTION not in options
    options.setdefault(_OPTION, [True, False, "columns"])
    try:
        yield
    finally:
        if new:
            del options[_OPTION]


def _voting(estimator: Any) -> _Settings:
    """Count the weights of the members that there are, as an array; a classifier's `transform` is not asked for."""
    weights = estimator.weights
    if weights is not None:
        pairs = zip(estimator.estimators, weights, strict=True)
        weights = np.array([weight for (_, member), weight in pairs if not isinstance(member, str)])
    flat = {"flatten_transform": False} if hasattr(estimator, "flatten_transform") else {}
    return {"weights": weights, **flat}


def _bins(estimator: Any) -> _Settings:
    """Write zeros too: the same numbers."""
    return {"encode": "onehot-dense"} if estimator.encode == "onehot" else {}


def _imputer(estimator: Any) -> _Settings:
    """Look for what is no text where a text is looked for that is NaN or None: a tensor of texts holds neither."""
    filled = getattr(estimator, "statistics_", None)
    texts = filled is not None and all(isinstance(value, str) for value in filled)
    return {"missing_values": _NO_TEXT} if texts and not isinstance(estimator.missing_values, str) else {}


_SETTINGS: Mapping[str, Callable[[Any], _Settings]] = {
    "VotingClassifier": _voting,
    "VotingRegressor": _voting,
    "KBinsDiscretizer": _bins,
    "SimpleImputer": _imputer,
}
"""What gives an estimator's settings, by the name of its class in scikit-learn."""
