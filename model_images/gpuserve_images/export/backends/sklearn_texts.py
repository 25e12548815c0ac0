"""Words as scikit-learn's vectorizers find them, where skl2onnx writes something narrower or else."""

import importlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sklearn.feature_extraction.text import CountVectorizer

from gpuserve_images.export.backends.model import FailureError
from gpuserve_images.export.backends.sklearn_patterns import runtime_pattern
from gpuserve_images.export.backends.sklearn_refused import parts

if TYPE_CHECKING:
    from onnx import ModelProto

_CONVERTER = "skl2onnx.operator_converters.text_vectoriser"
_SPLITTER = "_intelligent_split"
LOCALE = "C.UTF-8"
"""Every container has it; ONNX Runtime's default, en_US.UTF-8, is installed in few."""
_PLAIN: Mapping[str, Any] = {
    "input": "content",
    "preprocessor": None,
    "tokenizer": None,
    "strip_accents": None,
    "analyzer": "word",
}
"""Settings that ONNX Runtime's tokenizer can do. It has single characters too, but not as scikit-learn, which joins spaces first."""
_LOWERED = {"ς": "of Greek, whose capital Σ", "\u0307": "with a dot above, as of the capital İ, which"}
"""Letters that Python makes of some capitals and ONNX Runtime does not."""


def vectorizers(estimator: Any) -> list[Any]:
    """Return the fitted vectorizers that a model holds, with words of their own."""
    return [part for part in parts(estimator) if isinstance(part, CountVectorizer) and hasattr(part, "vocabulary_")]


def word_options(estimator: Any) -> dict[int, dict[str, str]]:
    """Return the options of skl2onnx, by vectorizer, with which texts are split as the estimator does, and lowered on any machine.

    Raises:
        FailureError: When a vectorizer finds words in a way that ONNX Runtime has not.
    """
    options: dict[int, dict[str, str]] = {}
    for vectorizer in vectorizers(estimator):
        _require_words(vectorizer)
        options[id(vectorizer)] = {"tokenexp": runtime_pattern(vectorizer.token_pattern), "locale": LOCALE}
    return options


@contextmanager
def groups_kept() -> Generator[None]:
    """Make skl2onnx split groups of words at their spaces: of itself it takes a group for one word where a word of it is not known alone.

    Raises:
        FailureError: When skl2onnx has no such function.
    """
    module = importlib.import_module(_CONVERTER)
    guess = getattr(module, _SPLITTER, None)
    if guess is None:
        import skl2onnx

        reason = f"would lose groups of words: skl2onnx {skl2onnx.__version__} splits them in another way"
        raise FailureError(reason, "pip install 'skl2onnx==1.20.*'.", value=f"skl2onnx {skl2onnx.__version__}")
    setattr(module, _SPLITTER, _words_of)
    try:
        yield
    finally:
        setattr(module, _SPLITTER, guess)


def _words_of(term: str, vectorizer: Any, *_: Any) -> tuple[str, ...]:
    """Return the words of a term of the vocabulary, which `_require_groups` has seen."""
    return (term,) if vectorizer.ngram_range[1] == 1 else tuple(term.split(" "))


def fill_kept_apart(model: "ModelProto", estimator: Any) -> None:
    """Give shorter texts of a batch a filling that is no word: skl2onnx's own may be part of a group of words."""
    longest = max((len(term) for vectorizer in vectorizers(estimator) for term in vectorizer.vocabulary_), default=0)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Tokenizer" and attribute.name == "pad_value":
                attribute.s = b"#" * (longest + 1)


def _require_words(vectorizer: Any) -> None:
    for setting, plain in _PLAIN.items():
        given = getattr(vectorizer, setting)
        if given != plain:
            reason = "finds words in a way that the exported model cannot"
            raise FailureError(
                reason, f"Train with {setting}={plain!r}, and prepare texts before.", value=f"{setting}={given!r}"
            )
    _require_stop_words(vectorizer)
    _require_groups(vectorizer)
    for letter, what in _LOWERED.items():
        word = next((term for term in vectorizer.vocabulary_ if letter in term), None) if vectorizer.lowercase else None
        if word is not None:
            reason = f"knows a word with a letter {what} becomes another letter in ONNX Runtime"
            raise FailureError(reason, "Train with lowercase=False, on texts that are lowered before.", value=word)


def _require_stop_words(vectorizer: Any) -> None:
    stops = vectorizer.get_stop_words() or frozenset()
    if not stops or (vectorizer.ngram_range == (1, 1) and stops.isdisjoint(vectorizer.vocabulary_)):
        return
    reason = "leaves out stop words before it joins words, which skl2onnx does not"
    fix = "Train without stop_words, or with ngram_range=(1, 1) and a vocabulary without them."
    raise FailureError(reason, fix, value=f"stop_words with ngram_range={vectorizer.ngram_range}")


def _require_groups(vectorizer: Any) -> None:
    least, most = vectorizer.ngram_range
    if most == 1:
        return
    words = vectorizer.build_tokenizer()
    value = f"ngram_range={vectorizer.ngram_range}"
    for term in vectorizer.vocabulary_:
        if words(term) != term.split(" "):
            reason = f"knows {term!r}, of which skl2onnx cannot tell whether it is one word or several"
            raise FailureError(reason, "Train with a token_pattern that finds no spaces.", value=value)
    missing = set(range(least, most + 1)) - {len(term.split(" ")) for term in vectorizer.vocabulary_}
    if missing:
        reason = f"knows no group of {min(missing)} words, and skl2onnx then counts longer ones wrongly"
        raise FailureError(reason, "Train with an ngram_range of lengths that the vocabulary has.", value=value)
