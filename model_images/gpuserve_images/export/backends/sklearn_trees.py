"""Where scikit-learn's trees send missing values: skl2onnx writes that down only for histogram gradient boosting."""

import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpuserve_images.export.backends.model import FailureError

_WRITER = "add_tree_to_attribute_pairs"
_CONVERTERS = "skl2onnx.operator_converters."
_FLAGS = "nodes_missing_value_tracks_true"


@contextmanager
def missing_values_kept() -> Generator[None]:
    """Make skl2onnx's converters of trees write where NaN goes on, which every tree decides: by what it learned, or by size.

    Done while they write, since two trees of a finished graph may differ in nothing else.

    Raises:
        FailureError: When skl2onnx has no such function, so that NaN would be sent the wrong way.
    """
    import skl2onnx

    modules = [module for name, module in sys.modules.items() if name.startswith(_CONVERTERS) and hasattr(module, _WRITER)]
    if not modules:
        reason = f"would lose where its trees send missing values: skl2onnx {skl2onnx.__version__} writes trees in another way"
        raise FailureError(reason, "pip install 'skl2onnx==1.20.*'.", value=f"skl2onnx {skl2onnx.__version__}")
    writer = getattr(modules[0], _WRITER)
    for module in modules:
        setattr(module, _WRITER, _keeping(writer))
    try:
        yield
    finally:
        for module in modules:
            setattr(module, _WRITER, writer)


def _keeping(writer: Callable[..., None]) -> Callable[..., None]:
    arguments = inspect.signature(writer)

    def write(*values: Any, **named: Any) -> None:
        writer(*values, **named)
        given = arguments.bind(*values, **named).arguments
        tree, flags = given["tree"], given["attr_pairs"][_FLAGS]
        flags[-tree.node_count :] = np.where(tree.children_left >= 0, tree.missing_go_to_left, 0).tolist()

    return write
