"""Texts are split into words as by scikit-learn's vectorizers, in any language; what ONNX Runtime would split otherwise is refused."""

import re

import joblib
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from gpuserve_images.export.backends import sklearn_model, sklearn_texts
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes
from gpuserve_images.export.backends.sklearn_patterns import runtime_pattern
from gpuserve_images.onnx_model.session import Session

TEXTS = [
    "gut schöne Größe a",
    "schlecht übel it's a # b",
    "gut Straße 12",
    "übel schlecht Ärger don't",
    "the product is great!",
    "product not great",
    "well-made x_y café 日本語",
    "the movie was not good, was it",
] * 2
NO_SPACES, ONE_OR_MORE, SMALL, ASCII = r"\S+", r"\w+", "[a-z]+", "[a-zA-Z0-9_]+"
LABELS = ["yes", "no"] * 8
ASKED = [
    *TEXTS[:8],
    "übel",
    "GRÖSSE",
    "Größe",
    "schöne",
    "Ärger",
    "product is great",
    "12x ½ ٣٤",
    "日本語",
    "",
    "gut\u00a0übel\u2003Ärger\x1fa",
    "gut\tStraße\nübel",
    "good good GOOD",
    "gut gut schöne",
    "#",
    "a # b # c",
    "naïve e\u0301 fiŉ",
    "schlecht, übel; well-made.",
]
COLUMN = (WishedInput("input", "object", (-1, 1)),)
ASKED_COLUMN = np.array(ASKED, object).reshape(-1, 1)


def load(estimator, tmp_path):
    joblib.dump(estimator, tmp_path / "model.joblib")
    return sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=COLUMN))


def same_words(estimator, tmp_path):
    model = load(estimator, tmp_path)
    model.export(tmp_path / "model.onnx")
    for want, got in zip(
        model.run({"input": ASKED_COLUMN}),
        Session(tmp_path / "model.onnx").run({"input": ASKED_COLUMN}).values(),
        strict=True,
    ):
        if want.dtype.kind in "OU":
            assert list(got) == list(want)
        else:
            np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?u)\b\w\w+\b",
        r"\w+",
        r"(?u)\b\w+\b",
        r"\b\w+\b",
        r"\b\w\w+\b",
        r"\b\w{3,}\b",
        r"\w\w\w+",
        r"\w\w",
        r"\S+",
        r"\d+",
        r"\D+",
        r"[^\s]+",
        r"[^ ,]+",
        r"(?u)[\w-]+",
        r"[\w\-\.]+",
        r"\w+[-']?\w*",
        r"[^\W\d_]+",
        r"[^\W_]{2,}",
        r"[a-zäöüß]+",
        r"[A-Z]+",
        *[r"[\u4e00-\u9fff]+", r"[\x41-\x7a]+", r"\w+'\w", r".", r"\#", r"\ \w+"],
    ],
)
def test_a_pattern_of_words(pattern, tmp_path):
    estimator = make_pipeline(TfidfVectorizer(token_pattern=pattern, lowercase=pattern != "[A-Z]+"), LogisticRegression(C=100))
    try:
        estimator.fit(TEXTS, LABELS)
    except ValueError:
        estimator.set_params(tfidfvectorizer__vocabulary=["A", "GR"]).fit(TEXTS, LABELS)
    same_words(estimator, tmp_path)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+)e",
        r"(?:[a-z]+)",
        r"[a-z]|[a-z]+",
        r"gut|gutes",
        r"[a-z]+?",
        r"\b[a-z]+\b",
        r"\b\w{2,4}\b",
        r"^\w+",
        r"\w+$",
        r"(?i)[a-z]+",
        *[r"\w+(?=e)", r"[a-z]*", r"[^\W\S]+", r"\B\w+", r"[[:alpha:]]+", r"\w++"],
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_pattern_that_is_read_otherwise(pattern):
    with pytest.raises(FailureError, match="a pattern that ONNX Runtime reads otherwise") as caught:
        runtime_pattern(pattern)
    assert caught.value.value == f"token_pattern={pattern!r}"


def test_a_run_of_words_keeps_its_least_length():
    assert [runtime_pattern(pattern)[-4:] for pattern in (r"\w+", r"\b\w\w+\b", r"(?u)\b\w\w{2,}\b")] == [
        "{1,}",
        "{2,}",
        "{3,}",
    ]


@pytest.mark.parametrize(
    "estimator",
    [
        CountVectorizer(ngram_range=(1, 2)),
        CountVectorizer(ngram_range=(1, 2), max_features=12),
        CountVectorizer(ngram_range=(2, 3), binary=True),
        CountVectorizer(ngram_range=(2, 2), token_pattern=NO_SPACES),
        CountVectorizer(vocabulary=["gut schöne", "great", "not good"], ngram_range=(1, 2)),
        CountVectorizer(stop_words="english"),
        TfidfVectorizer(norm="l1", use_idf=False),
        make_pipeline(CountVectorizer(max_df=0.5), TfidfTransformer(norm=None)),
        make_union(CountVectorizer(token_pattern=ONE_OR_MORE), CountVectorizer(token_pattern=SMALL)),
        make_union(CountVectorizer(token_pattern=ASCII), CountVectorizer()),
    ],
    ids=lambda value: re.sub(r"\s+", " ", str(value)),
)
def test_counts(estimator, tmp_path):
    same_words(estimator.fit(TEXTS), tmp_path)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"stop_words": "english", "ngram_range": (1, 2)}, "stop_words with ngram_range=(1, 2)"),
        ({"stop_words": ["gut"], "vocabulary": ["gut", "great"]}, "stop_words with ngram_range=(1, 1)"),
        ({"ngram_range": (1, 2), "vocabulary": ["gut", "great"]}, "ngram_range=(1, 2)"),
        ({"ngram_range": (1, 2), "token_pattern": "[^,]+"}, "ngram_range=(1, 2)"),
        ({"analyzer": "char"}, "analyzer='char'"),
        ({"analyzer": "char_wb"}, "analyzer='char_wb'"),
        ({"analyzer": str.split}, "analyzer=<method 'split' of 'str' objects>"),
        ({"tokenizer": str.split, "token_pattern": None}, "tokenizer=<method 'split' of 'str' objects>"),
        ({"preprocessor": str.upper}, "preprocessor=<method 'upper' of 'str' objects>"),
        ({"strip_accents": "unicode"}, "strip_accents='unicode'"),
        ({"token_pattern": r"\w+|#"}, r"token_pattern='\\w+|#'"),
        ({"sublinear_tf": True}, "TfidfVectorizer(sublinear_tf=True)"),
    ],
    ids=str,
)
def test_a_vectorizer_that_finds_words_otherwise(more, named, tmp_path):
    model = load(make_pipeline(TfidfVectorizer(**more), LogisticRegression()).fit(TEXTS, LABELS), tmp_path)
    with pytest.raises(FailureError) as caught:
        model.export(tmp_path / "model.onnx")
    assert caught.value.value == named


@pytest.mark.parametrize(
    ("text", "word"), [("ΟΔΟΣ καλή", "οδος"), ("İstanbul güzel", "i̇stanbul")], ids=["final sigma", "dotted I"]
)
def test_capitals_that_become_other_letters_in_onnx_runtime(text, word, tmp_path):
    with pytest.raises(FailureError, match="knows a word with a letter") as caught:
        load(CountVectorizer(token_pattern=NO_SPACES).fit([text]), tmp_path).export(tmp_path / "model.onnx")
    assert caught.value.value == word
    as_they_are = CountVectorizer(token_pattern=NO_SPACES, lowercase=False).fit([text.lower(), *TEXTS])
    same_words(as_they_are, tmp_path)


def test_a_vectorizer_inside_a_column(tmp_path):
    part = ColumnTransformer([("words", CountVectorizer(analyzer="char"), 0)]).fit(np.array(TEXTS, object).reshape(-1, 1))
    with pytest.raises(FailureError) as caught:
        load(part, tmp_path).export(tmp_path / "model.onnx")
    assert caught.value.value == "analyzer='char'"


def test_a_skl2onnx_that_splits_in_another_way_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sklearn_texts, "_SPLITTER", "renamed")
    with pytest.raises(FailureError, match="would lose groups of words"):
        load(CountVectorizer().fit(TEXTS), tmp_path).export(tmp_path / "model.onnx")
