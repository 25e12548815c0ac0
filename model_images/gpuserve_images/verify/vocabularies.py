"""The words that an ONNX file knows of its inputs of text: made-up letters alone would reach none of what it has learned."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.onnx_model.files import load

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_STILL_TEXT = frozenset(
    {
        "Identity",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Transpose",
        "Expand",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "ArrayFeatureExtractor",
        "StringNormalizer",
        "Tokenizer",
    }
)
"""Operators whose output is made of their input's texts."""


def known_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the terms of the vocabularies that each input of an ONNX file is looked up in; groups of words are joined by spaces.

    Inputs that no vocabulary is known of are left out.

    Raises:
        SourceError: When the file is no whole ONNX model.
    """
    graph = load(path).graph
    found = {value.name: tuple(dict.fromkeys(_terms_of(graph, value.name))) for value in graph.input}
    return {name: terms for name, terms in found.items() if terms}


def _terms_of(graph: "GraphProto", name: str) -> Iterator[str]:
    reached = {name}
    for node in graph.node:  # in the order in which they are run
        if reached.isdisjoint(node.input):
            continue
        if node.op_type == "TfIdfVectorizer":
            yield from _terms(node)
        elif node.op_type in _STILL_TEXT:
            reached.update(node.output)


def _terms(node: "NodeProto") -> Iterator[str]:
    """Yield the terms of a vocabulary, which lie one after the other: first all of one word, then all of two, and so on."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if "pool_strings" not in attributes:
        return
    pool = [word.decode() for word in attributes["pool_strings"].strings]
    starts = [*attributes["ngram_counts"].ints, len(pool)]
    for length, (start, end) in enumerate(pairwise(starts), 1):
        for place in range(start, end, length):
            yield " ".join(pool[place : place + length])
