"""scikit-learn's trees as they are: skl2onnx leaves out where most of them send missing values, and how some split categories."""

import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpuserve_images.export.backends.model import FailureError

_WRITER = "add_tree_to_attribute_pairs"
_HISTOGRAM = "add_tree_to_attribute_pairs_hist_gradient_boosting"
_CONVERTERS = "skl2onnx.operator_converters."
_FLAGS = "nodes_missing_value_tracks_true"


@contextmanager
def trees_kept() -> Generator[None]:
    """Make skl2onnx's converters write trees as they are, or refuse them.

    They learn where NaN goes on, which every tree decides: by what it learned, or by size. Done while they write, since two trees of
    a finished graph may differ in nothing else. Splits by categories, which they write as splits by size, are refused.

    Raises:
        FailureError: When skl2onnx has no such function, so that NaN would be sent the wrong way; inside, when a tree is refused.
    """
    import skl2onnx

    modules = [module for name, module in sys.modules.items() if name.startswith(_CONVERTERS)]
    found = [
        (module, name, getattr(module, name)) for module in modules for name in (_WRITER, _HISTOGRAM) if hasattr(module, name)
    ]
    if {name for _, name, _ in found} != {_WRITER, _HISTOGRAM}:
        reason = f"would lose where its trees send missing values: skl2onnx {skl2onnx.__version__} writes trees in another way"
        raise FailureError(reason, "pip install 'skl2onnx==1.20.*'.", value=f"skl2onnx {skl2onnx.__version__}")
    for module, name, writer in found:
        setattr(module, name, _keeping(writer) if name == _WRITER else _refusing(writer))
    try:
        yield
    finally:
        for module, name, writer in found:
            setattr(module, name, writer)


def _keeping(writer: Callable[..., None]) -> Callable[..., None]:
    arguments = inspect.signature(writer)

    def write(*values: Any, **named: Any) -> None:
        writer(*values, **named)
        given = arguments.bind(*values, **named).arguments
        tree, flags = given["tree"], given["attr_pairs"][_FLAGS]
        if not hasattr(tree, "missing_go_to_left"):
            return  # before scikit-learn 1.3 trees took no missing values
        flags[-tree.node_count :] = np.where(tree.children_left >= 0, tree.missing_go_to_left, 0).tolist()

    return write


def _refusing(writer: Callable[..., None]) -> Callable[..., None]:
    arguments = inspect.signature(writer)

    def write(*values: Any, **named: Any) -> None:
        tree = arguments.bind(*values, **named).arguments["tree"]
        if tree.nodes["is_categorical"].any():
            reason = "has trees that split by categories, which skl2onnx writes as splits by size"
            fix = "Train without categorical_features, on one-hot codes, or train LightGBM or XGBoost."
            raise FailureError(reason, fix, value="categorical_features")
        writer(*values, **named)

    return write
