"""scikit-learn: a pickled or joblib estimator, exported by skl2onnx."""

import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import is_classifier

from gpuserve_images.export.backends.model import FREE, Arrays, FailureError, Port, Wishes, one_line
from gpuserve_images.export.backends.opset import at_opset
from gpuserve_images.export.backends.sklearn_calibrated import score_options
from gpuserve_images.export.backends.sklearn_inputs import NUMPY_TYPES, what_it_takes
from gpuserve_images.export.backends.sklearn_members import require_members
from gpuserve_images.export.backends.sklearn_pickles import read
from gpuserve_images.export.backends.sklearn_probe import missing_pairs, probe
from gpuserve_images.export.backends.sklearn_refused import parts, require_exportable
from gpuserve_images.export.backends.sklearn_settings import convertible
from gpuserve_images.export.backends.sklearn_texts import fill_kept_apart, groups_kept, word_options
from gpuserve_images.export.backends.sklearn_trees import trees_kept

ML_OPSET = 3


class SklearnModel:
    """A fitted estimator or pipeline."""

    def __init__(self, estimator: Any, saved_with: str, wishes: Wishes) -> None:
        """Find out what the estimator takes and gives."""
        self._estimator = estimator
        self._wishes = wishes
        # KMeans that was fitted on FP64 refuses to be asked in FP32.
        centers = (getattr(part, "cluster_centers_", None) for part in parts(estimator))
        self._in_double = any(found is not None and found.dtype == np.float64 for found in centers)
        self._questions = _questions(estimator)
        names = wishes.output_names([question.name for question in self._questions])
        taken = what_it_takes(estimator, wishes, names)
        self.inputs, self._columns = taken.ports, taken.columns
        self.outputs = [
            Port(name, _served_type(question, self.inputs), shape)
            for name, question, shape in zip(names, self._questions, self._shapes(), strict=True)
        ]
        self.notes = [f"saved by scikit-learn {saved_with}, read by {sklearn.__version__}"]
        if taken.note:
            self.notes.append(taken.note)
        if is_classifier(estimator) and len(names) == 1:
            self.notes.append(f"{type(estimator).__name__} gives no probabilities, so the label is the only output")

    def export(self, out: Path) -> None:
        """Convert with skl2onnx."""
        from skl2onnx import convert_sklearn

        require_exportable(self._estimator)
        require_members(self._estimator)
        options = {**word_options(self._estimator), **score_options(self._estimator), **_without_zipmap(self._estimator)}
        try:
            with trees_kept(), groups_kept(), convertible(self._estimator):
                converted: Any = convert_sklearn(
                    self._estimator,
                    initial_types=[
                        (name, _skl_type(port))
                        for name, port in zip(self._columns or [self.inputs[0].name], self.inputs, strict=True)
                    ],
                    target_opset={"": self._wishes.opset, "ai.onnx.ml": ML_OPSET},
                    options=options,
                )
        except FailureError:
            raise
        except Exception as error:
            raise _refusal(error) from error
        fill_kept_apart(converted, self._estimator)
        del converted.graph.output[len(self.outputs) :]
        out.write_bytes(at_opset(converted, self._wishes.opset).SerializeToString())

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Ask scikit-learn."""
        table = self._table(inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "X does not have valid feature names": the columns are in the model's order
            try:
                return [question.answer(table) for question in self._questions]
            except ValueError as error:
                if "unknown categories" not in str(error):
                    raise
                reason = f"is asked about a text that its encoder was not fitted on: {one_line(error)}"
                fix = "Declare samples of real requests (`verify: {inputs: ...}`), or fit with handle_unknown='ignore'."
                raise FailureError(reason, fix) from error

    def missing(self) -> Arrays:
        """Return pairs of rows that scikit-learn answers: a whole one, and the same with a number missing."""
        answered = [pair for pair in missing_pairs(probe(self._estimator, self.inputs, self._columns)) if self._answers(pair)]
        return {name: np.concatenate([pair[name] for pair in answered]) for name in answered[0]} if answered else {}

    def _answers(self, inputs: Arrays) -> bool:
        try:
            self.run(inputs)
        except (ValueError, TypeError, FailureError):
            return False
        return True

    def _shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs, for which the estimator is asked."""
        try:
            answers = self.run(probe(self._estimator, self.inputs, self._columns))
        except Exception as error:  # an estimator of anybody's may refuse zeros or empty texts by any error
            if is_classifier(self._estimator):
                return [(FREE,), (FREE, len(self._estimator.classes_))][: len(self._questions)]
            if _kind(self._estimator) == "regressor":
                return [(FREE, 1)]
            reason = f"does not answer zeros or empty texts, by which its outputs are measured: {one_line(error)}"
            raise FailureError(reason, "Fit its encoders with handle_unknown='ignore'.") from error
        return [(FREE, *array.shape[1:]) for array in answers]

    def _table(self, inputs: Arrays) -> Any:
        if self._in_double:
            inputs = {name: rows.astype(np.float64) if rows.dtype == np.float32 else rows for name, rows in inputs.items()}
        if not self._columns:
            rows, port = inputs[self.inputs[0].name], self.inputs[0]
            # What was fitted on texts takes a list of them; skl2onnx's graph takes a column as well.
            texts = port.dtype == "object" and not hasattr(self._estimator, "n_features_in_")
            return rows.ravel() if texts and port.shape[1:] == (1,) else rows
        pandas: Any = importlib.import_module("pandas")
        columns = zip(self._columns, self.inputs, strict=True)
        return pandas.DataFrame({column: inputs[port.name].ravel() for column, port in columns})


def load(path: Path, wishes: Wishes) -> SklearnModel:
    """Read the file.

    Raises:
        FailureError: When it is of another scikit-learn, no estimator, or not fitted, or its inputs are not those that are wished.
    """
    return SklearnModel(*read(path), wishes)


@dataclass(frozen=True)
class _Question:
    """What an estimator is asked for one output.

    Attributes:
        name: Default name of the output.
        ask: The estimator's method.
        column: Whether an answer of one number per row gets a second axis, as skl2onnx gives it.
    """

    name: str
    ask: Callable[[Any], Any]
    column: bool = True

    def answer(self, table: Any) -> NDArray[Any]:
        answer = self.ask(table)
        answer = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
        return answer.reshape(-1, 1) if self.column and answer.ndim == 1 else answer


def _kind(estimator: Any) -> str | None:
    """Return `classifier`, `regressor`, `clusterer` or the like; before scikit-learn 1.6 a class says so of itself."""
    get_tags = getattr(sklearn.utils, "get_tags", None)
    return get_tags(estimator).estimator_type if get_tags else getattr(estimator, "_estimator_type", None)


def _questions(estimator: Any) -> list[_Question]:
    """Return what the estimator is asked, in the order of skl2onnx's outputs."""
    if is_classifier(estimator):
        label = _Question("label", estimator.predict, column=False)
        return [label, _Question("probabilities", estimator.predict_proba)] if hasattr(estimator, "predict_proba") else [label]
    if not hasattr(estimator, "predict"):
        return [_Question("transformed", estimator.transform)]
    kind = _kind(estimator)
    if kind == "clusterer" and hasattr(estimator, "transform"):
        return [_Question("label", estimator.predict, column=False), _Question("distances", estimator.transform)]
    if kind == "outlier_detector":
        return [_Question("label", estimator.predict), _Question("scores", estimator.decision_function)]
    if kind == "regressor":
        return [_Question("prediction", estimator.predict)]
    reason = "is neither a classifier, a regressor, a transformer, an outlier detector nor a clusterer with distances"
    raise FailureError(reason, "Save one of these.", value=type(estimator).__name__)


def _served_type(question: _Question, inputs: list[Port]) -> str:
    if question.name != "label":
        return "float64" if inputs[0].dtype == "float64" else "float32"
    classes = getattr(getattr(question.ask, "__self__", None), "classes_", np.zeros(0))
    return "object" if classes.dtype.kind in "OU" else "int64"


def _skl_type(port: Port) -> Any:
    from skl2onnx.common import data_types

    return getattr(data_types, NUMPY_TYPES[port.dtype])([None, *port.shape[1:]])


def _without_zipmap(estimator: Any) -> dict[int, Any]:
    """Ask for a tensor of probabilities in place of a list of dictionaries, where the estimator would make one."""
    if not (is_classifier(estimator) and hasattr(estimator, "predict_proba")):
        return {}
    return {id(estimator): {"zipmap": False}}


def _refusal(error: Exception) -> FailureError:
    named = re.search(r"<class '([^']+)'>", str(error))
    if type(error).__name__ in {"MissingShapeCalculator", "MissingConverter"} and named:
        reason = "has an estimator that skl2onnx has no converter for"
        fix = "Use one that it lists: https://onnx.ai/sklearn-onnx/supported.html; save boosters in their own format."
        return FailureError(reason, fix, value=named[1])
    return FailureError(
        f"is not exported by skl2onnx: {one_line(error)}", "Change that setting of the estimator, or use another one."
    )
