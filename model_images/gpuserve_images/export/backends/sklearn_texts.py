"""Words as scikit-learn's vectorizers find them, where skl2onnx writes something narrower."""

from typing import TYPE_CHECKING, Any

from onnx import helper

if TYPE_CHECKING:
    from onnx import ModelProto

ASCII_WORDS = "[a-zA-Z0-9_]+"
r"""What skl2onnx writes for the default `token_pattern`, `\b\w\w+\b`: without letters such as ö, and with words of one letter."""
WORDS = r"[\pL\pN_]{2,}"
LOCALE = "C.UTF-8"
"""Every container has it; ONNX Runtime's default, en_US.UTF-8, is installed in few."""


def words_kept(model: "ModelProto", estimator: Any) -> None:
    """Make a converted model split texts into words as the estimator does, and lower them on any machine."""
    own = any(name.endswith("token_pattern") and value == ASCII_WORDS for name, value in estimator.get_params().items())
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "StringNormalizer" and "locale" not in attributes:
            node.attribute.append(helper.make_attribute("locale", LOCALE))
        if own or node.op_type != "Tokenizer" or "tokenexp" not in attributes:
            continue
        if attributes["tokenexp"].s == ASCII_WORDS.encode():
            attributes["tokenexp"].s = WORDS.encode()
