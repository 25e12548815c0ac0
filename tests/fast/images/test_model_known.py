"""Generated tables are made of what a model knows: categories of its encoders, numbers between the splits of its trees."""

import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from gpuserve_images.export.backends import lightgbm_model, sklearn_model, xgboost_model
from gpuserve_images.export.backends.model import WishedInput, Wishes
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.verify.categories import UNHEARD_OF
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.known import NOTHING, Known
from gpuserve_images.verify.spec import GenerateSpec
from gpuserve_images.verify.splits import MOST

RANDOM = np.random.default_rng(0)
ROWS = 300
SPEC = GenerateSpec(count=200)
CELLS = np.column_stack([RANDOM.choice(["Bern", "Oslo", "Rome"], ROWS), RANDOM.choice(["l", "s"], ROWS)]).astype(object)
MONEY = np.column_stack([RANDOM.normal(40, 9, ROWS), RANDOM.lognormal(10, 1, ROWS)]).astype(np.float32)
RICH = (MONEY[:, 1] > np.median(MONEY[:, 1])).astype(int)
TEXT = (WishedInput("input", "object"),)


def exported(estimator, tmp_path, inputs=()):
    joblib.dump(estimator, tmp_path / "model.joblib")
    sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=inputs)).export(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def drawn(path, name="input", spec=SPEC):
    requests = generate(Session(path).signature, spec, Known.of(path))
    return np.concatenate([request[name] for request in requests])


@pytest.mark.parametrize(
    ("estimator", "more"),
    [
        (OneHotEncoder(), set()),
        (OneHotEncoder(handle_unknown="ignore"), {UNHEARD_OF}),
        (OrdinalEncoder(), set()),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), {UNHEARD_OF}),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), {UNHEARD_OF}),
        (ColumnTransformer([("o", OneHotEncoder(), [1]), ("p", OrdinalEncoder(), [0])]), set()),
    ],
    ids=["one-hot", "ignored", "ordinal", "of its own number", "imputed", "by column"],
)
def test_categories_of_each_column(estimator, more, tmp_path):
    path = exported(make_pipeline(estimator, LogisticRegression()).fit(CELLS, RICH), tmp_path, TEXT)
    cities, sizes = drawn(path).T
    assert set(cities) == {"Bern", "Oslo", "Rome"} | more
    assert set(sizes) == {"l", "s"} | more


@pytest.mark.parametrize(("unknown", "more"), [("error", set()), ("ignore", {10})])
def test_categories_that_are_numbers(unknown, more, tmp_path):
    rows = RANDOM.choice([3, 7, 9], (ROWS, 1)).astype(np.float32)
    encoder = OneHotEncoder(handle_unknown=unknown)
    path = exported(make_pipeline(encoder, LogisticRegression()).fit(rows, RICH), tmp_path)
    assert set(drawn(path).ravel()) == {3, 7, 9} | more
    own = drawn(path, spec=GenerateSpec(count=50, ranges={"input": (0, 1)}))
    assert own.min() >= 0
    assert own.max() < 1


@pytest.mark.parametrize("kind", ["forest", "boosted", "xgboost", "lightgbm"])
def test_generated_numbers_reach_the_leaves(kind, tmp_path):
    file, out = tmp_path / "model", tmp_path / "model.onnx"
    if kind == "xgboost":
        import xgboost

        file = file.with_suffix(".json")
        xgboost.XGBRegressor(n_estimators=10).fit(MONEY, MONEY[:, 1]).save_model(file)
        xgboost_model.load(file, Wishes(opset=18)).export(out)
    elif kind == "lightgbm":
        import lightgbm

        file = file.with_suffix(".txt")
        lightgbm.train({"verbose": -1}, lightgbm.Dataset(MONEY, MONEY[:, 1].copy()), num_boost_round=10).save_model(file)
        lightgbm_model.load(file, Wishes(opset=18)).export(out)
    else:
        wanted = RICH if kind == "forest" else MONEY[:, 1]
        estimator = (RandomForestClassifier if kind == "forest" else GradientBoostingRegressor)(n_estimators=10, random_state=0)
        exported(estimator.fit(MONEY, wanted), tmp_path)
    session = Session(out)
    (name,) = (tensor.name for tensor in session.signature.inputs)
    answers = session.run({name: drawn(out, name)})[session.outputs[-1]]
    blind = session.run({name: RANDOM.uniform(-1, 1, (200, 2)).astype(np.float32)})[session.outputs[-1]]
    assert len(np.unique(blind, axis=0)) == 1
    assert len(np.unique(answers, axis=0)) > (8 if kind == "forest" else 20)


def test_columns_behind_an_encoder_are_those_of_the_table(tmp_path):
    table = pd.DataFrame({"city": CELLS[:, 0], "age": MONEY[:, 0], "money": MONEY[:, 1]})
    parts = ColumnTransformer([("c", OneHotEncoder(), ["city"])], remainder="passthrough")
    path = exported(make_pipeline(parts, GradientBoostingRegressor(n_estimators=5)).fit(table, MONEY[:, 1]), tmp_path)
    money = drawn(path, "money")
    assert np.quantile(money, 0.9) > 10_000
    assert set(drawn(path, "city").ravel()) == {"Bern", "Oslo", "Rome"}


def test_numbers_around_what_a_scaler_centres(tmp_path):
    ages = drawn(exported(make_pipeline(StandardScaler(), LogisticRegression()).fit(MONEY, RICH), tmp_path))[:, 0]
    mean, deviation = MONEY[:, 0].mean(), MONEY[:, 0].std()
    assert mean - 2 * deviation <= ages.min() < mean - 1.5 * deviation
    assert mean + 1.5 * deviation < ages.max() <= mean + 2 * deviation


def test_splits_are_kept_up_to_a_number(tmp_path):
    numbers = np.linspace(0, 1, 3 * MOST)
    attributes = {
        "nodes_treeids": [0] * len(numbers) + [0],
        "nodes_featureids": [1] * len(numbers) + [0],
        "nodes_modes": ["BRANCH_LEQ"] * len(numbers) + ["LEAF"],
        "nodes_values": [*numbers, 77.0],
    }
    tree = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [tree],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "tree.onnx")
    ((unread, split),) = Known.of(tmp_path / "tree.onnx").columns.values()
    assert unread is None
    assert len(split.options) == MOST + 2
    assert (split.options[1], split.options[-2]) == (0, 1)
    assert (split.pick(0), split.pick(0.999999)) == (split.options[0], pytest.approx(split.options[-1], abs=1e-2))


def test_splits_that_stand_for_a_missing_number_and_broken_trees_say_nothing(tmp_path):
    tables = {"whole": [1.0, 3e38], "broken": [1.0, 2.0, 3.0]}
    for name, numbers in tables.items():
        nodes = {"nodes_featureids": [0, 0], "nodes_modes": ["BRANCH_LT"] * 2, "nodes_values": numbers}
        tree = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **nodes)
        values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 1]) for each in ("x", "y")]
        onnx.save(helper.make_model(helper.make_graph([tree], "g", values[:1], values[1:])), tmp_path / f"{name}.onnx")
    assert Known.of(tmp_path / "broken.onnx") == NOTHING
    ((split,),) = Known.of(tmp_path / "whole.onnx").columns.values()
    assert split.options == (0, 1, 2)


def test_categories_in_the_type_that_clients_send(tmp_path):
    """A graph casts what it is given before it looks it up."""

    def looked_up(kind, to, **keys):
        cast = helper.make_node("Cast", ["x"], ["s"], to=to)
        found = helper.make_node("LabelEncoder", ["s"], ["y"], domain="ai.onnx.ml", **keys)
        values = [
            helper.make_tensor_value_info("x", kind, ["n", 1]),
            helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 1]),
        ]
        graph = helper.make_graph([cast, found], "g", values[:1], values[1:])
        onnx.save(helper.make_model(graph), tmp_path / "cast.onnx")
        requests = generate(read_signature(tmp_path / "cast.onnx"), SPEC, Known.of(tmp_path / "cast.onnx"))
        return {request["x"].item() for request in requests}

    texts = {"keys_strings": ["1", "2", "07", "no", "900"], "values_int64s": range(5), "default_int64": -1}
    assert looked_up(TensorProto.INT64, TensorProto.STRING, **texts) == {1, 2, 900}
    assert looked_up(TensorProto.UINT8, TensorProto.STRING, **texts) == {1, 2}
    assert looked_up(TensorProto.FLOAT, TensorProto.STRING, **texts) == {1, 2, 7, 900}
    assert looked_up(TensorProto.BOOL, TensorProto.STRING, **texts) == {False, True}
    none = {"keys_strings": ["yes", "no"], "values_int64s": range(2)}
    assert looked_up(TensorProto.INT64, TensorProto.STRING, **none) == {0, 1}
    numbers = {"keys_int64s": [7, 300], "values_int64s": range(2), "default_int64": -1}
    assert looked_up(TensorProto.STRING, TensorProto.INT64, **numbers) == {"7", "300", "301"}
    assert looked_up(TensorProto.UINT8, TensorProto.INT64, **numbers) == {7}


def test_splits_in_the_type_that_clients_send(tmp_path):
    def split(kind, *numbers):
        nodes = {"nodes_featureids": [0] * len(numbers), "nodes_modes": ["BRANCH_LEQ"] * len(numbers), "nodes_values": numbers}
        cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
        tree = helper.make_node("TreeEnsembleRegressor", ["f"], ["y"], domain="ai.onnx.ml", **nodes)
        values = [
            helper.make_tensor_value_info("x", kind, ["n", 1]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1]),
        ]
        onnx.save(helper.make_model(helper.make_graph([cast, tree], "g", values[:1], values[1:])), tmp_path / "split.onnx")
        requests = generate(read_signature(tmp_path / "split.onnx"), SPEC, Known.of(tmp_path / "split.onnx"))
        return [request["x"].item() for request in requests]

    assert set(split(TensorProto.BOOL, 0.5)) == {False, True}
    ages = split(TensorProto.UINT8, 10.5, 240.5)
    assert ages.count(0) > 40
    assert ages.count(255) > 40
    assert {type(text) for text in split(TensorProto.STRING, 0.5)} == {str}


def test_what_is_wider_than_any_table_is_not_followed(tmp_path):
    shape = numpy_helper.from_array(np.array([-1, 2**40]), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Concat", ["r", "r"], ["y"], axis=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2**50])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [shape],
    )
    onnx.save(helper.make_model(graph), tmp_path / "wide.onnx")
    assert Known.of(tmp_path / "wide.onnx") == NOTHING
