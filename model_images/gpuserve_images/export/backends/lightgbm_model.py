"""LightGBM: a booster in its own text file."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from gpuserve_images.export.backends import forest as trees
from gpuserve_images.export.backends.forest import EQUAL, LEAF, Forest, Link, Node
from gpuserve_images.export.backends.model import Arrays, FailureError, Wishes, one_line

LINKS: dict[str, Link] = {
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "log1p_exp",
    "binary": "sigmoid",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "lambdarank": "identity",
    "rank_xendcg": "identity",
}
"""Each is seen to give the booster's own answers in tests/fast/images/test_model_export_trees.py."""
CLASSIFIERS = {"binary", "multiclass", "multiclassova"}


class LightgbmModel:
    """A booster."""

    def __init__(self, booster: Any, wishes: Wishes) -> None:
        """Read its trees."""
        self._booster = booster
        self._wishes = wishes
        dump = booster.dump_model()
        self._forest = _forest(dump)
        self.inputs = trees.forest_inputs(self._forest.features, wishes)
        self.outputs = trees.forest_outputs(self._forest, wishes)
        self.notes = [f"objective {dump['objective']}"]

    def export(self, out: Path) -> None:
        """Write the trees."""
        trees.write(self._forest, out, self._wishes.opset)

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Ask LightGBM."""
        return trees.answers(self._forest, np.asarray(self._booster.predict(inputs[self.inputs[0].name])))


def load(path: Path, wishes: Wishes) -> LightgbmModel:
    """Read the file.

    Raises:
        FailureError: When LightGBM cannot read it, or it is of a kind that is not exported.
    """
    try:
        booster = lightgbm.Booster(model_file=path)
    except lightgbm.basic.LightGBMError as error:
        reason = f"cannot be read by LightGBM {lightgbm.__version__}: {one_line(error)}"
        raise FailureError(reason, "Save it with booster.save_model('model.txt').") from error
    return LightgbmModel(booster, wishes)


def _forest(dump: dict[str, Any]) -> Forest:
    # A function of one's own in place of an objective leaves no name.
    name, *rest = str(dump.get("objective", "")).split() or [""]
    if name not in LINKS:
        known = ", ".join(sorted(LINKS))
        raise FailureError("has an objective that is not exported", f"Train with one of {known}.", value=name or "none")
    settings = dict(each.split(":", 1) for each in rest if ":" in each)
    sums = int(dump["num_tree_per_iteration"])
    # A random forest gives the mean of its trees, boosting their sum.
    share = len(dump["tree_info"]) / sums if dump.get("average_output") else 1.0
    return Forest(
        features=int(dump["max_feature_idx"]) + 1,
        bases=[0.0] * sums,
        trees=[(number % sums, _nodes(tree["tree_structure"], share)) for number, tree in enumerate(dump["tree_info"])],
        link="signed_square" if "sqrt" in rest else LINKS[name],
        scale=float(settings.get("sigmoid", 1)),
        classifier=name in CLASSIFIERS,
    )


def _nodes(root: dict[str, Any], share: float) -> list[Node]:
    """Number the nested nodes of a tree; their order is the order in which they are met."""
    order: list[dict[str, Any]] = [root]
    for node in order:
        order += [node[side] for side in ("left_child", "right_child") if side in node]
    numbers = {id(node): number for number, node in enumerate(order)}
    nodes: list[Node] = []
    sets: list[tuple[int, list[float]]] = []
    for number, node in enumerate(order):
        if "leaf_value" in node:
            nodes.append(_leaf(node, share))
            continue
        yes, no = numbers[id(node["left_child"])], numbers[id(node["right_child"])]
        feature = int(node["split_feature"])
        if node["decision_type"] == "==":
            categories = [float(each) for each in str(node["threshold"]).split("||")]
            nodes.append(Node(EQUAL, categories[0], feature, yes, no))
            sets.append((number, categories))
        else:
            nodes.append(Node("BRANCH_LEQ", _below(float(node["threshold"])), feature, yes, no, _missing_left(node)))
    for number, categories in sets:
        trees.chain(nodes, number, categories)
    return nodes


def _leaf(node: dict[str, Any], share: float) -> Node:
    if "leaf_coeff" in node:
        reason = "has linear models in its leaves, for which ONNX has no tree"
        raise FailureError(reason, "Train without linear_tree.", value="linear_tree")
    return Node(LEAF, float(node["leaf_value"]) / share)


def _missing_left(node: dict[str, Any]) -> bool:
    """Say where NaN goes: by the node's default, or as a zero where training saw no missing values."""
    if node["missing_type"] == "Zero":
        reason = "treats zeros as missing, which ONNX trees cannot"
        raise FailureError(reason, "Train without zero_as_missing.", value="zero_as_missing")
    return bool(node["default_left"]) if node["missing_type"] == "NaN" else float(node["threshold"]) >= 0


def _below(threshold: float) -> float:
    """Return the largest FP32 number that is not above a threshold: FP32 inputs are split exactly as in FP64."""
    rounded = np.float32(threshold)
    if float(rounded) <= threshold:  # as FP64: NumPy would compare with the threshold rounded to FP32
        return float(rounded)
    return float(np.nextafter(rounded, np.float32(-np.inf)))
