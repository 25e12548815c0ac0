"""scikit-learn models of tables: columns become inputs of their own, typed as the model's encoders know them, without a declaration."""

import joblib
import numpy as np
import pandas as pd
import pytest
from e2e_sklearn import exported
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.known import Known
from gpuserve_images.verify.spec import GenerateSpec

RANDOM = np.random.default_rng(0)
ROWS = 120
TABLE = pd.DataFrame(
    {
        "id": [f"c{number}" for number in range(ROWS)],
        "age": RANDOM.normal(40, 9, ROWS),
        "income (k$)": RANDOM.normal(50, 9, ROWS),
        "city": RANDOM.choice(["Bern", "Oslo", "Rome"], ROWS),
        "kids": RANDOM.integers(0, 4, ROWS),
        "vip": RANDOM.choice([True, False], ROWS),
        "note": RANDOM.choice(["good film", "bad film", "no good"], ROWS),
    }
)
WANTED = (TABLE["age"] + 5 * TABLE["kids"] > 45).astype(int)
NUMBERS = make_pipeline(SimpleImputer(), StandardScaler())
TEXTS = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
AGE, INCOME, CITY = ("age", "float32"), ("income_k", "float32"), ("city", "object")


def first(*parts, **more):
    return make_pipeline(ColumnTransformer(list(parts), **more), LogisticRegression(max_iter=1000))


def loaded(estimator, tmp_path, *inputs):
    joblib.dump(estimator, tmp_path / "model.joblib")
    return sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=inputs))


def agrees(model, tmp_path):
    """Export, and compare on inputs made of what the exported file knows; returns them."""
    out = tmp_path / "model.onnx"
    session = exported(model, out)
    requests = generate(session.signature, GenerateSpec(count=40), Known.of(out))
    for request in requests:
        for want, got in zip(model.run(request), session.run(request).values(), strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return requests


MODELS = {
    "a typical one": (first(("n", NUMBERS, ["age", "income (k$)"]), ("c", TEXTS, ["city"])), [AGE, INCOME, CITY]),
    "whole numbers": (first(("n", NUMBERS, ["age"]), ("c", OneHotEncoder(), ["kids"])), [AGE, ("kids", "int64")]),
    "both in one encoder": (first(("c", OneHotEncoder(), ["city", "kids"])), [CITY, ("kids", "int64")]),
    "true and false": (first(("n", NUMBERS, ["age"]), ("c", OneHotEncoder(), ["vip"])), [AGE, ("vip", "int64")]),
    "read twice": (
        first(("n", NUMBERS, ["age", "kids"]), ("c", OneHotEncoder(), ["kids"])),
        [AGE, ("kids", "int64")],
    ),
    "numbers alone": (first(("n", NUMBERS, ["age", "income (k$)"])), [AGE, INCOME]),
    "one column": (first(("c", OneHotEncoder(), ["city"])), [CITY]),
    "a text": (first(("t", TfidfVectorizer(), "note"), ("n", NUMBERS, ["age"])), [AGE, ("note", "object")]),
    "dropped by name": (first(("n", NUMBERS, ["age"]), ("d", "drop", ["id"]), ("c", TEXTS, ["city"])), [AGE, CITY]),
    "columns within columns": (
        first(("a", ColumnTransformer([("c", OneHotEncoder(), ["city"])], remainder=StandardScaler()), ["city", "kids"])),
        [CITY, ("kids", "float32")],
    ),
    "a search": (
        GridSearchCV(first(("n", NUMBERS, ["age"]), ("c", TEXTS, ["city"])), {"logisticregression__C": [1, 2]}, cv=2),
        [AGE, CITY],
    ),
    "by type": (
        make_pipeline(
            make_column_transformer((NUMBERS, make_column_selector(dtype_include=float)), (OrdinalEncoder(), ["city"])),
            RandomForestClassifier(5, random_state=0),
        ),
        [AGE, INCOME, CITY],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_columns_are_inputs_of_their_own_types(name, tmp_path):
    estimator, inputs = MODELS[name]
    model = loaded(estimator.fit(TABLE, WANTED), tmp_path)
    assert [(port.name, port.dtype, port.shape) for port in model.inputs] == [(*each, (-1, 1)) for each in inputs]
    assert f"takes its columns one by one, typed as its encoders know them: {inputs[0][0]} " in model.notes[1]
    agrees(model, tmp_path)


@pytest.mark.parametrize("rest", ["passthrough", StandardScaler()], ids=str)
def test_what_remains_has_its_place(rest, tmp_path):
    table = TABLE[["age", "city", "kids"]]
    model = loaded(first(("c", OneHotEncoder(), ["city"]), remainder=rest).fit(table, WANTED), tmp_path)
    assert [(port.name, port.dtype) for port in model.inputs] == [AGE, CITY, ("kids", "float32")]
    agrees(model, tmp_path)


def test_columns_by_index_keep_their_places(tmp_path):
    model = loaded(first(("n", NUMBERS, [1]), ("c", OneHotEncoder(), [3])).fit(TABLE, WANTED), tmp_path)
    assert [port.name for port in model.inputs] == ["id", "age", "income_k", "city", "kids", "vip", "note"]
    agrees(model, tmp_path)


@pytest.mark.parametrize(
    ("table", "dtype", "width"),
    [(TABLE[["city", "note"]], "object", 2), (TABLE[["kids", "vip"]], "float32", 2)],
    ids=["texts", "numbers"],
)
def test_columns_of_one_type_stay_one_table(table, dtype, width, tmp_path):
    model = loaded(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table, WANTED), tmp_path)
    assert [(port.name, port.dtype, port.shape) for port in model.inputs] == [("input", dtype, (-1, width))]
    agrees(model, tmp_path)


def test_a_column_called_as_an_output_is(tmp_path):
    table = TABLE.rename(columns={"age": "label"})
    model = loaded(first(("n", NUMBERS, ["label"]), ("c", TEXTS, ["city"])).fit(table, WANTED), tmp_path)
    assert [port.name for port in model.inputs] == ["label_", "city"]
    agrees(model, tmp_path)


@pytest.mark.parametrize("names", [("years", "town"), ("city", "age")])
def test_declared_columns_are_those_that_are_read(names, tmp_path):
    estimator = first(("n", NUMBERS, ["age"]), ("c", TEXTS, ["city"])).fit(TABLE, WANTED)
    types = {"years": "float32", "town": "object", "age": "float32", "city": "object"}
    model = loaded(estimator, tmp_path, *(WishedInput(name, types[name]) for name in names))
    assert {port.name: port.dtype for port in model.inputs} == {name: types[name] for name in names}
    agrees(model, tmp_path)


@pytest.mark.parametrize(
    ("table", "inputs", "told"),
    [
        (TABLE, [WishedInput("x", "float32")], "was fitted on columns age, city"),
        (TABLE, [WishedInput("age", "float32"), WishedInput("city", "bool")], "is a type that scikit-learn models are not"),
        (TABLE, [WishedInput("age", "float32", (-1, 2)), WishedInput("city", "object")], "is one column of several"),
        (TABLE.rename(columns={"age": "年", "city": "市"}), [], "has columns whose names no request can carry or tell apart"),
        (TABLE.rename(columns={"age": "a b", "city": "a-_b"}), [], None),
        (TABLE.rename(columns={"age": "a b", "city": "a (b)"}), [], "has columns whose names no request can carry"),
    ],
    ids=["one of two", "a type", "a shape", "no name", "two names", "one name"],
)
def test_what_cannot_be_given_is_said(table, inputs, told, tmp_path):
    old = {name: place for place, name in enumerate(TABLE)}
    age, city = table.columns[old["age"]], table.columns[old["city"]]
    estimator = first(("n", NUMBERS, [age]), ("c", TEXTS, [city])).fit(table, WANTED)
    if told is None:
        assert [port.name for port in loaded(estimator, tmp_path, *inputs).inputs] == ["a_b", "a-_b"]
        return
    with pytest.raises(FailureError, match=told) as caught:
        loaded(estimator, tmp_path, *inputs)
    assert caught.value.fix


def test_texts_and_numbers_without_names_ask_for_a_table(tmp_path):
    cells = TABLE[["age", "city"]].to_numpy(object)
    with pytest.raises(FailureError, match="was fitted on texts and numbers in one array without column names"):
        loaded(first(("n", NUMBERS, [0]), ("c", OneHotEncoder(), [1])).fit(cells, WANTED), tmp_path)
