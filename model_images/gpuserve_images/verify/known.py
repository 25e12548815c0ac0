"""What a model's file knows of its inputs, so that generated requests reach what it has learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gpuserve_images.onnx_model.files import load
from gpuserve_images.verify.categories import known_categories
from gpuserve_images.verify.columns import Choice, widths
from gpuserve_images.verify.splits import known_splits
from gpuserve_images.verify.tables import table_sizes
from gpuserve_images.verify.vocabularies import known_words


@dataclass(frozen=True)
class Known:
    """What is known, by the name of an input.

    Attributes:
        bounds: Number of values that an integer input may have (see `tables`).
        words: Terms that texts are made of (see `vocabularies`).
        columns: What each column may be (see `categories`, `splits`); None where nothing is known of it.
    """

    bounds: Mapping[str, int] = field(default_factory=dict[str, int])
    words: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    columns: Mapping[str, tuple[Choice | None, ...]] = field(default_factory=dict[str, tuple[Choice | None, ...]])

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return what an ONNX file knows.

        Raises:
            SourceError: When the file is no whole ONNX model.
        """
        graph = load(path).graph
        known = known_splits(graph) | known_categories(graph)
        columns = {name: tuple(known.get((name, place)) for place in range(width)) for name, width in widths(graph).items()}
        return cls(table_sizes(path), known_words(path), {name: choices for name, choices in columns.items() if any(choices)})


NOTHING = Known()
