"""Boosted trees as ONNX: one tree ensemble that gives the sums of leaves, then the objective's own link in plain operators.

Written here because onnxmltools ends at opset 15 and gives other answers than the booster for random forests, one-versus-all,
linear trees and several objectives, see docs/adr/0009.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from gpuserve_images.export.backends.model import FREE, FailureError, Port, WishedInput, Wishes

ML_OPSET = 3
LEAF = "LEAF"
EQUAL = "BRANCH_EQ"
Category = Literal["floor", "truncated"]
Link = Literal["identity", "sigmoid", "exp", "softmax", "signed_square", "log1p_exp"]

_CATEGORIES = ("Where", ["categories", "whole", "input"], "features")
_WHOLE: dict[Category, list[tuple[str, list[str], str]]] = {
    "floor": [("Floor", ["input"], "whole"), _CATEGORIES],
    "truncated": [
        ("Abs", ["input"], "size"),
        ("Floor", ["size"], "floor"),
        ("Sign", ["input"], "sign"),
        ("Mul", ["sign", "floor"], "whole"),
        _CATEGORIES,
    ],
}
"""From a number to its category, which boosters take the whole part for, and ONNX's trees the number itself."""


@dataclass(frozen=True)
class Node:
    """One node: a leaf with its value, or a comparison of a feature with two ways on.

    Attributes:
        mode: `LEAF`, `BRANCH_LT`, `BRANCH_LEQ` or `BRANCH_EQ`.
        value: What the feature is compared with, or the leaf's value.
        feature: Index of the feature.
        yes: Index in the tree of the node to go to when the comparison holds.
        no: The same when it does not.
        missing_yes: Whether a missing value (NaN) goes on at `yes`.
    """

    mode: str
    value: float
    feature: int = 0
    yes: int = 0
    no: int = 0
    missing_yes: bool = False


@dataclass(frozen=True)
class Forest:
    """All trees, and how their sums become answers.

    Attributes:
        features: How many features the model takes.
        bases: What each sum begins with; its length is the number of sums.
        trees: For each tree the sum that its leaves add to, and its nodes, the root first.
        link: What is done with the sums.
        scale: Factor of the sums before the link.
        classifier: Whether the answers are a label and probabilities.
        category: How a number that is compared with categories becomes one: -0.5 is category 0 where it is truncated.
    """

    features: int
    bases: Sequence[float]
    trees: Sequence[tuple[int, Sequence[Node]]]
    link: Link
    scale: float = 1.0
    classifier: bool = False
    category: Category = "truncated"

    @property
    def outputs(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Default name, NumPy type and shape of each output."""
        if not self.classifier:
            return [("prediction", "float32", (FREE, len(self.bases)))]
        classes = max(2, len(self.bases))
        return [("label", "int64", (FREE,)), ("probabilities", "float32", (FREE, classes))]


@dataclass
class _Columns:
    """The attributes of a TreeEnsembleRegressor, one entry per node or leaf."""

    nodes: dict[str, list[float | int | str]] = field(default_factory=dict[str, list[float | int | str]])

    def add(self, **entries: float | str) -> None:
        for name, entry in entries.items():
            self.nodes.setdefault(name, []).append(entry)


def forest_inputs(features: int, wishes: Wishes) -> list[Port]:
    """Return the one input of a booster: a table of numbers.

    Raises:
        FailureError: When the user declared another input than the model has.
    """
    wish = wishes.inputs[0] if wishes.inputs else WishedInput("input", "float32")
    shape = (FREE, features)
    if len(wishes.inputs) > 1 or wish.dtype != "float32" or wish.shape not in {None, shape}:
        reason = f"takes one input, FP32 of shape [-1, {features}]"
        raise FailureError(
            reason, "Declare that in export.inputs, or nothing.", value=", ".join(each.name for each in wishes.inputs)
        )
    return [Port(wish.name, "float32", shape)]


def forest_outputs(forest: Forest, wishes: Wishes) -> list[Port]:
    """Return the outputs under the user's names."""
    names = wishes.output_names([name for name, _, _ in forest.outputs])
    return [Port(name, dtype, shape) for name, (_, dtype, shape) in zip(names, forest.outputs, strict=True)]


def answers(forest: Forest, predicted: NDArray[Any]) -> list[NDArray[Any]]:
    """Return what a booster predicted as `forest_outputs` has it; of two classes it gives the probability of the second alone."""
    if not forest.classifier:
        return [predicted.reshape(len(predicted), -1)]
    if predicted.ndim == 1:
        predicted = np.stack([1 - predicted, predicted], axis=1)
    return [predicted.argmax(axis=1), predicted]


def write(forest: Forest, out: Path, opset: int) -> None:
    """Write a forest as ONNX with the default names of inputs and outputs."""
    weights = {"scale": np.array(forest.scale, np.float32), "one": np.array(1, np.float32)}
    compared = {node.feature for _, tree in forest.trees for node in tree if node.mode == EQUAL}
    weights["categories"] = np.array([feature in compared for feature in range(forest.features)])
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in _WHOLE[forest.category]] if compared else []
    asked = "features" if compared else "input"
    nodes.append(helper.make_node("TreeEnsembleRegressor", [asked], ["sums"], domain="ai.onnx.ml", **_attributes(forest)))
    scaled = "sums" if forest.scale == 1 else "scaled"
    if scaled == "scaled":
        nodes.append(helper.make_node("Mul", ["sums", "scale"], [scaled]))
    linked = "linked" if forest.classifier else "prediction"
    steps: dict[Link, list[tuple[str, list[str], str]]] = {
        "identity": [("Identity", [scaled], linked)],
        "sigmoid": [("Sigmoid", [scaled], linked)],
        "exp": [("Exp", [scaled], linked)],
        "softmax": [("Softmax", [scaled], linked)],
        "signed_square": [("Abs", [scaled], "root"), ("Mul", [scaled, "root"], linked)],
        "log1p_exp": [("Softplus", [scaled], linked)],
    }
    nodes += [helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps[forest.link]]
    if forest.classifier:
        if len(forest.bases) == 1:
            nodes.append(helper.make_node("Sub", ["one", "linked"], ["others"]))
            nodes.append(helper.make_node("Concat", ["others", "linked"], ["probabilities"], axis=1))
        else:
            nodes.append(helper.make_node("Identity", ["linked"], ["probabilities"]))
        nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "forest",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, forest.features])],
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [None if size == FREE else size for size in shape]
            )
            for name, dtype, shape in forest.outputs
        ],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items() if name in used],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    save(helper.make_model(graph, opset_imports=opsets, producer_name="gpuserve"), out)


def _attributes(forest: Forest) -> dict[str, Any]:
    columns = _Columns()
    for tree, (target, nodes) in enumerate(forest.trees):
        for number, node in enumerate(nodes):
            leaf = node.mode == LEAF
            columns.add(
                nodes_treeids=tree,
                nodes_nodeids=number,
                nodes_featureids=node.feature,
                nodes_modes=node.mode,
                nodes_values=0.0 if leaf else float(node.value),
                nodes_truenodeids=node.yes,
                nodes_falsenodeids=node.no,
                nodes_missing_value_tracks_true=int(node.missing_yes),
            )
            if leaf:
                columns.add(target_treeids=tree, target_nodeids=number, target_ids=target, target_weights=float(node.value))
    return {
        **columns.nodes,
        "n_targets": len(forest.bases),
        "base_values": [float(base) for base in forest.bases],
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def chain(nodes: list[Node], number: int, categories: Sequence[float]) -> None:
    """Make a node that compares with the first of a set of categories compare with all of them.

    ONNX compares with one value at a time, so each further category is a node of its own behind the `no` of the one before; all
    share one `yes`, which ONNX Runtime takes as one set.
    """
    for category in categories[1:]:
        last = nodes[number]
        nodes.append(Node(last.mode, category, last.feature, last.yes, last.no, last.missing_yes))
        nodes[number] = Node(last.mode, last.value, last.feature, last.yes, len(nodes) - 1, last.missing_yes)
        number = len(nodes) - 1
