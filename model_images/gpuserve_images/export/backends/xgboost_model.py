"""XGBoost: a booster in its own JSON or UBJSON file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from gpuserve_images.export.backends import forest as trees
from gpuserve_images.export.backends.forest import EQUAL, LEAF, Forest, Link, Node
from gpuserve_images.export.backends.model import Arrays, FailureError, Wishes

LINKS: dict[str, Link] = {
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:quantileerror": "identity",
    "reg:logistic": "sigmoid",
    "binary:logistic": "sigmoid",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "rank:pairwise": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
}
"""Each is seen to give the booster's own answers in tests/fast/images/test_model_export_trees.py."""
CLASSIFIERS = {"binary:logistic", "multi:softprob", "multi:softmax"}
TO_SUM: dict[Link, Callable[[float], float]] = {
    "sigmoid": lambda base: float(np.log(base / (1 - base))),
    "exp": lambda base: float(np.log(base)),
}
"""XGBoost keeps what the sums begin with as an answer, for objectives with one answer (`ProbToMargin`)."""


class XgboostModel:
    """A booster, cut at its best iteration as XGBoost's own `predict` of scikit-learn style is."""

    def __init__(self, booster: Any, wishes: Wishes) -> None:
        """Read its trees."""
        self._booster = booster
        self._wishes = wishes
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
        self._objective = str(learner["objective"]["name"])
        best = learner["attributes"].get("best_iteration")
        self._rounds = (0, int(best) + 1) if best is not None else (0, 0)
        self._forest = _forest(learner, self._objective, None if best is None else int(best))
        self.inputs = trees.forest_inputs(self._forest.features, wishes)
        self.outputs = trees.forest_outputs(self._forest, wishes)
        self.notes = [f"objective {self._objective}"]
        if best is not None:
            self.notes.append(f"trees after the best iteration, {best}, are left out")

    def export(self, out: Path) -> None:
        """Write the trees."""
        trees.write(self._forest, out, self._wishes.opset)

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Ask XGBoost."""
        booster = self._booster
        table = xgboost.DMatrix(
            inputs[self.inputs[0].name],
            feature_types=booster.feature_types,
            enable_categorical=booster.feature_types is not None and "c" in booster.feature_types,
        )
        raw = self._objective == "multi:softmax"  # this objective gives labels only
        answer = booster.predict(table, output_margin=raw, validate_features=False, iteration_range=self._rounds)
        if raw:
            answer = np.exp(answer - answer.max(axis=1, keepdims=True))
            answer /= answer.sum(axis=1, keepdims=True)
        return trees.answers(self._forest, answer)


def load(path: Path, wishes: Wishes) -> XgboostModel:
    """Read the file.

    Raises:
        FailureError: When XGBoost cannot read it, or it is of a kind that is not exported.
    """
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError as error:
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(("Stack", "  ["))]
        reason = f"cannot be read by XGBoost {xgboost.__version__}: {' '.join(lines)}"
        raise FailureError(reason, "Save it with booster.save_model('model.ubj').") from error
    return XgboostModel(booster, wishes)


def _forest(learner: dict[str, Any], objective: str, best: int | None) -> Forest:
    parameters = learner["learner_model_param"]
    kind = learner["gradient_booster"]["name"]
    if objective not in LINKS:
        known = ", ".join(sorted(LINKS))
        raise FailureError("has an objective that is not exported", f"Train with one of {known}.", value=objective)
    if kind not in {"gbtree", "dart"}:
        raise FailureError("is no ensemble of trees", "Train with booster gbtree or dart.", value=f"booster {kind}")
    boosted = learner["gradient_booster"]
    model = (boosted["gbtree"] if kind == "dart" else boosted)["model"]
    dropped = boosted["weight_drop"] if kind == "dart" else [1.0] * len(model["trees"])
    last = model["iteration_indptr"][best + 1] if best is not None else len(model["trees"])
    link = LINKS[objective]
    targets = int(parameters.get("num_target", 1))
    sums = max(1, int(parameters["num_class"]), targets)
    bases = [TO_SUM.get(link, float)(base) for base in _bases(parameters["base_score"])]
    return Forest(
        features=int(parameters["num_feature"]),
        bases=bases * sums if len(bases) == 1 else bases,
        trees=[
            (target, _nodes(tree, weight))
            for target, tree, weight in zip(model["tree_info"][:last], model["trees"], dropped, strict=False)
        ],
        link=link,
        # Several targets are several yes or no: each has a probability of its own, and no label is the one that is right.
        classifier=objective in CLASSIFIERS and targets == 1,
        category="floor",
    )


def _bases(written: str) -> list[float]:
    """Return the base scores; a list since XGBoost 3.1, one number before."""
    value = json.loads(written)
    return [float(base) for base in value] if isinstance(value, list) else [float(value)]


def _nodes(tree: dict[str, Any], weight: float) -> list[Node]:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        reason = "has trees that give several answers at each leaf"
        raise FailureError(reason, "Train with multi_strategy='one_output_per_tree'.", value="multi_output_tree")
    sets = {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        )
    }
    nodes: list[Node] = []
    chains: list[tuple[int, Sequence[int]]] = []
    for number, (left, right) in enumerate(zip(tree["left_children"], tree["right_children"], strict=True)):
        value = float(tree["split_conditions"][number])
        if left == -1:
            nodes.append(Node(LEAF, value * weight))
            continue
        feature, missing_left = int(tree["split_indices"][number]), bool(tree["default_left"][number])
        if number in sets:
            # XGBoost sends the categories of the set right, and everything else left.
            chains.append((number, sets[number]))
            nodes.append(Node(EQUAL, sets[number][0], feature, yes=right, no=left, missing_yes=not missing_left))
        else:
            nodes.append(Node("BRANCH_LT", value, feature, yes=left, no=right, missing_yes=missing_left))
    for number, categories in chains:
        trees.chain(nodes, number, categories)
    return nodes
