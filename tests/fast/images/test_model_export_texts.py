"""scikit-learn models of texts and categories, and the shapes of outputs that only the model itself knows."""

import joblib
import numpy as np
import pandas as pd
import pytest
from e2e_sklearn import exported
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder

from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes

RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame({"colour": RANDOM.choice(["red", "blue", "größe"], 90), "size": RANDOM.choice(["s", "l"], 90)})
CELLS = TABLE.to_numpy(object)
NUMBERS = np.column_stack([RANDOM.choice([7, 8, 9], 90), RANDOM.choice([3, 4], 90)]).astype(np.float32)
X = RANDOM.normal(size=(90, 3)).astype(np.float32)
LABELS = (X > 0).astype(int)
TEXT = (WishedInput("input", "object"),)
COLUMNS = (WishedInput("colour", "object"), WishedInput("size", "object"))


def both(estimator, asked, tmp_path, inputs=()):
    """Export; returns the loaded model, its own answers and those of the exported one."""
    joblib.dump(estimator, tmp_path / "model.joblib")
    model = sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=inputs))
    session = exported(model, tmp_path / "model.onnx")
    return model, model.run(asked), list(session.run(asked).values())


def same(answers, wanted):
    for answer, want in zip(answers, wanted, strict=True):
        assert answer.shape == want.shape
        if want.dtype.kind in "OU":
            assert list(answer) == list(want)
        else:
            np.testing.assert_allclose(answer, want, rtol=1e-3, atol=1e-5)


def part(columns, **more):
    return ColumnTransformer([("codes", OneHotEncoder(**more), columns)])


@pytest.mark.parametrize(
    ("estimator", "width"),
    [
        (OneHotEncoder().fit(CELLS), 5),
        (OneHotEncoder(sparse_output=False).fit(CELLS), 5),
        (part([1]).fit(CELLS), 2),
        (part(slice(0, 1)).fit(CELLS), 3),
        (part([True, False]).fit(CELLS), 3),
        (make_pipeline(part([0, 1]), Ridge()).fit(CELLS, LABELS), 3),
        (GridSearchCV(make_pipeline(OneHotEncoder(), Ridge()), {"ridge__alpha": [1, 2]}, cv=2).fit(CELLS, LABELS[:, :2]), 2),
    ],
    ids=["sparse", "dense", "index", "slice", "mask", "regression", "search"],
)
def test_outputs_of_categories_have_their_width(estimator, width, tmp_path):
    model, want, got = both(estimator, {"input": CELLS}, tmp_path, inputs=TEXT)
    assert [port.shape for port in model.outputs] == [(-1, width)]
    same(got, want)


def test_columns_of_categories(tmp_path):
    inputs = {name: TABLE[name].to_numpy(object).reshape(-1, 1) for name in TABLE}
    _, want, got = both(part(["size"]).fit(TABLE), inputs, tmp_path, inputs=COLUMNS)
    same(got, want)


def test_categories_that_are_numbers(tmp_path):
    model, want, got = both(OneHotEncoder().fit(NUMBERS), {"input": NUMBERS}, tmp_path)
    assert model.outputs[0].shape == (-1, 5)
    same(got, want)


@pytest.mark.parametrize(
    "estimator", [MLPClassifier((4,), max_iter=3), OneVsRestClassifier(LogisticRegression())], ids=["network", "one each"]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_labels_at_once(estimator, tmp_path):
    model, want, got = both(estimator.fit(X, LABELS), {"input": X}, tmp_path)
    assert [(port.name, port.shape) for port in model.outputs] == [("label", (-1, 3)), ("probabilities", (-1, 3))]
    same(got, want)


@pytest.mark.parametrize("more", [{}, {"token_pattern": "[a-zA-Z0-9_]+"}, {"ngram_range": (1, 2)}], ids=str)
def test_words(more, tmp_path):
    texts = ["good nice a", "BAD awful", "nice good größe", "awful bad 日本語"] * 5
    estimator = make_pipeline(TfidfVectorizer(**more), LogisticRegression()).fit(texts, ["yes", "no"] * 10)
    asked = {"input": np.array(["GOOD Größe a", "bad gr", "日本語 naïve_x", "nothing of it"], object)}
    _, want, got = both(estimator, asked, tmp_path, inputs=(WishedInput("input", "object", (-1,)),))
    same(got, want)


def test_a_column_of_texts(tmp_path):
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good nice", "bad awful"], ["yes", "no"])
    asked = {"input": np.array([["good"], ["awful"]], object)}
    _, want, got = both(estimator, asked, tmp_path, inputs=(WishedInput("input", "object", (-1, 1)),))
    same(got, want)


@pytest.mark.parametrize("wishes", [(), (WishedInput("text", "object"),)], ids=["nothing", "a name"])
@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        GridSearchCV(make_pipeline(TfidfVectorizer(), LogisticRegression()), {"logisticregression__C": [1, 2]}, cv=2),
        TfidfVectorizer(),
        make_union(CountVectorizer(), TfidfVectorizer()),
    ],
    ids=["pipeline", "search", "vectorizer", "union"],
)
def test_a_model_of_texts_needs_no_declaration(estimator, wishes, tmp_path):
    estimator.fit(["good nice", "bad awful", "good good", "bad bad"], ["yes", "no", "yes", "no"])
    name = wishes[0].name if wishes else "input"
    model, want, got = both(estimator, {name: np.array([["good"], ["awful"]], object)}, tmp_path, inputs=wishes)
    assert [(port.name, port.dtype, port.shape) for port in model.inputs] == [(name, "object", (-1, 1))]
    same(got, want)


def test_numbers_for_a_model_of_texts_are_refused(tmp_path):
    joblib.dump(TfidfVectorizer().fit(["good nice", "bad awful"]), tmp_path / "model.joblib")
    with pytest.raises(FailureError, match=r"takes texts, and export.inputs says numbers") as caught:
        sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=(WishedInput("input", "float32", (-1, 4)),)))
    assert "`dtype: BYTES`" in caught.value.fix


def test_an_unknown_category_asks_for_samples(tmp_path):
    joblib.dump(make_pipeline(OneHotEncoder(), Ridge()).fit(CELLS, X[:, 0]), tmp_path / "model.joblib")
    model = sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=TEXT))
    with pytest.raises(FailureError, match=r"asked about a text that its encoder was not fitted on: .*'green'") as caught:
        model.run({"input": np.array([["green", "s"]], object)})
    assert "verify: {inputs: ...}" in caught.value.fix


@pytest.mark.parametrize(
    ("imputer", "gap"),
    [
        (SimpleImputer(strategy="most_frequent"), np.nan),
        (SimpleImputer(strategy="constant", fill_value="missing"), np.nan),
        (SimpleImputer(missing_values=None, strategy="most_frequent"), None),
        (SimpleImputer(missing_values="red", strategy="constant", fill_value="blue"), "red"),
    ],
    ids=str,
)
def test_gaps_in_texts_were_filled_in_training(imputer, gap, tmp_path):
    gaps = CELLS.copy()
    gaps[::4] = gap
    known = {"handle_unknown": "ignore"}
    pipeline = make_pipeline(imputer, OneHotEncoder(**known), LogisticRegression()).fit(gaps, LABELS[:, 0])
    asked = {"input": np.array([*CELLS[:20], ["", "s"], ["green", "red"]], object)}
    _, wanted, answers = both(pipeline, asked, tmp_path, TEXT)
    same(answers, wanted)
