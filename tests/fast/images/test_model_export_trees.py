"""Every objective that is exported gives the booster's own answers; what would not is refused by name."""

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost

from gpuserve_images.export.backends import lightgbm_model, xgboost_model
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes

ROWS = 400
RANDOM = np.random.default_rng(0)
CLEAN = RANDOM.normal(size=(ROWS, 5)).astype(np.float32)
MISSING = np.where(RANDOM.random(CLEAN.shape) < 0.1, np.float32("nan"), CLEAN)
CATEGORIES = np.column_stack([RANDOM.integers(0, 40, ROWS), CLEAN[:, 1:]]).astype(np.float32)
ASKED = np.concatenate([MISSING, RANDOM.normal(size=(100, 5)).astype(np.float32)])
ODD_CATEGORIES = CATEGORIES.copy()
ODD_CATEGORIES[::7, 0] = np.nan
ODD_CATEGORIES[1::7, 0] = 99
# Generated inputs hold such numbers, and boosters take their whole part.
ODD_CATEGORIES[2::7, 0] += np.float32(0.75)
ODD_CATEGORIES[3::7, 0] = -0.5

BINARY = (CLEAN[:, 0] + CLEAN[:, 1] > 0).astype(int)
CLASSES = (CLEAN[:, 0] * 2).round().clip(-1, 1).astype(int) + 1
POSITIVE = np.exp(CLEAN[:, 0])
OF_CATEGORY = CATEGORIES[:, 0] * 7 % 11 + CATEGORIES[:, 1]


def target(objective):
    if any(word in objective for word in ("multi", "rank", "ndcg", "map")) and objective != "mape":
        return CLASSES
    return BINARY if any(word in objective for word in ("binary", "logistic", "cross")) else POSITIVE


def train_xgboost(path, parameters, y, x=MISSING, data=(), **options):
    table = xgboost.DMatrix(x, y, **dict(data))
    xgboost.train({"nthread": 1, **parameters}, table, **{"num_boost_round": 6, **options}).save_model(path)


def train_lightgbm(path, parameters, y, x=CLEAN, **data):
    table = lightgbm.Dataset(x, y, **data)
    lightgbm.train({"verbose": -1, "num_leaves": 15, "num_threads": 1, **parameters}, table, 6).save_model(path)


def compare(module, path, tmp_path, asked=ASKED, opset=18):
    """Export and compare at several batch sizes; returns the model."""
    model = module.load(path, Wishes(opset=opset))
    out = tmp_path / "model.onnx"
    model.export(out)
    onnx.checker.check_model(str(out), full_check=True)
    session = onnxruntime.InferenceSession(out)
    for size in (1, 3, len(asked)):
        batch = asked[-size:]
        expected = model.run({"input": batch})
        for port, want, got in zip(model.outputs, expected, session.run(None, {"input": batch}), strict=True):
            assert got.shape == want.shape == (size, *port.shape[1:])
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return model


@pytest.mark.parametrize("objective", sorted(xgboost_model.LINKS))
def test_xgboost_objectives(objective, tmp_path):
    path = tmp_path / "model.ubj"
    more = {"num_class": 3} if "multi" in objective else {"quantile_alpha": 0.5} if "quantile" in objective else {}
    data = {"qid": np.repeat(np.arange(ROWS // 10), 10)} if "rank" in objective else {}
    y = CLASSES > 1 if objective == "rank:map" else target(objective)
    train_xgboost(path, {"objective": objective, **more}, y, data=data)
    assert compare(xgboost_model, path, tmp_path).notes == [f"objective {objective}"]


@pytest.mark.parametrize(
    ("parameters", "y"),
    [
        ({"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3}, BINARY),
        ({"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 4, "subsample": 0.5}, CLASSES),
        ({"objective": "binary:logistic", "base_score": 0.2}, BINARY),
        ({}, np.column_stack([POSITIVE, BINARY])),
    ],
    ids=["dart", "random forest", "base score", "two targets"],
)
def test_xgboost_kinds(parameters, y, tmp_path):
    path = tmp_path / "model.json"
    train_xgboost(path, parameters, y)
    compare(xgboost_model, path, tmp_path)


def test_xgboost_labels_that_may_be_true_at_once_have_a_probability_each(tmp_path):
    path = tmp_path / "model.ubj"
    labels = (CLEAN[:, :3] > 0).astype(int)
    booster = xgboost.XGBClassifier(n_estimators=6, n_jobs=1).fit(MISSING, labels)
    booster.save_model(path)
    model = compare(xgboost_model, path, tmp_path)
    assert [(port.name, port.shape) for port in model.outputs] == [("prediction", (-1, 3))]
    (got,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"input": ASKED})
    np.testing.assert_allclose(got, booster.predict_proba(ASKED), rtol=1e-4, atol=1e-5)


def test_xgboost_stops_at_its_best_iteration(tmp_path):
    path = tmp_path / "model.ubj"
    wrong = xgboost.DMatrix(CLEAN, (CLASSES + 1) % 3)
    options = {"evals": [(wrong, "wrong")], "early_stopping_rounds": 3, "verbose_eval": False}
    train_xgboost(path, {"objective": "multi:softprob", "num_class": 3}, CLASSES, num_boost_round=30, **options)
    assert "best iteration" in compare(xgboost_model, path, tmp_path).notes[1]


@pytest.mark.parametrize("onehot", [1, 100])
def test_xgboost_categories(onehot, tmp_path):
    path = tmp_path / "model.ubj"
    data = {"feature_types": ["c"] + ["q"] * 4, "enable_categorical": True}
    train_xgboost(path, {"max_cat_to_onehot": onehot, "tree_method": "hist"}, OF_CATEGORY, CATEGORIES, data=data)
    compare(xgboost_model, path, tmp_path, np.where(ODD_CATEGORIES == 99, np.float32(39), ODD_CATEGORIES))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("objective", sorted(lightgbm_model.LINKS))
def test_lightgbm_objectives(objective, missing, tmp_path):
    path = tmp_path / "model.txt"
    more = {"num_class": 3} if "multi" in objective else {}
    group = [10] * (ROWS // 10) if "rank" in objective else None
    train_lightgbm(path, {"objective": objective, **more}, target(objective), MISSING if missing else CLEAN, group=group)
    compare(lightgbm_model, path, tmp_path)


FOREST = {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1}


@pytest.mark.parametrize(
    ("parameters", "y"),
    [
        ({"objective": "regression", **FOREST}, POSITIVE),
        ({"objective": "binary", **FOREST}, BINARY),
        ({"objective": "multiclass", "num_class": 3, **FOREST}, CLASSES),
        ({"objective": "regression", "boosting": "dart"}, POSITIVE),
        ({"objective": "regression", "reg_sqrt": True}, POSITIVE),
        ({"objective": "binary", "sigmoid": 2.5}, BINARY),
        ({"objective": "regression", "min_data_in_leaf": 10**6}, POSITIVE),
    ],
    ids=["forest", "binary forest", "multiclass forest", "dart", "square root", "sigmoid", "one leaf"],
)
def test_lightgbm_kinds(parameters, y, tmp_path):
    path = tmp_path / "model.txt"
    train_lightgbm(path, parameters, y)
    compare(lightgbm_model, path, tmp_path)


def test_lightgbm_categories(tmp_path):
    path = tmp_path / "model.txt"
    train_lightgbm(path, {"objective": "regression"}, OF_CATEGORY, CATEGORIES, categorical_feature=[0])
    compare(lightgbm_model, path, tmp_path, ODD_CATEGORIES)


def test_lightgbm_thresholds_split_neighbouring_numbers(tmp_path):
    """The threshold between two FP32 neighbours is an FP64 number; rounded up, it would send both the same way."""
    low = np.float32(1)
    x = np.tile(np.array([[low], [np.nextafter(low, np.float32(2))]], np.float32), (50, 1))
    path = tmp_path / "model.txt"
    train_lightgbm(path, {"objective": "regression", "min_data_in_leaf": 1, "min_data_in_bin": 1}, np.tile([0.0, 9.0], 50), x)
    model = lightgbm_model.load(path, Wishes(opset=18))
    (answer,) = model.run({"input": x[:2]})
    assert answer[0, 0] != answer[1, 0]
    compare(lightgbm_model, path, tmp_path, x)


@pytest.mark.parametrize("opset", [17, 21])
def test_opset_is_the_one_asked_for(opset, tmp_path):
    path = tmp_path / "model.txt"
    train_lightgbm(path, {"objective": "binary"}, BINARY)
    compare(lightgbm_model, path, tmp_path, opset=opset)
    assert {entry.domain: entry.version for entry in onnx.load(tmp_path / "model.onnx").opset_import} == {
        "": opset,
        "ai.onnx.ml": 3,
    }


@pytest.mark.parametrize(
    ("parameters", "y", "value"),
    [
        ({"booster": "gblinear"}, POSITIVE, "gblinear"),
        ({"objective": "binary:hinge"}, BINARY, "binary:hinge"),
        ({"objective": "survival:cox"}, POSITIVE, "survival:cox"),
        ({"multi_strategy": "multi_output_tree"}, np.column_stack([POSITIVE, BINARY]), "multi_output_tree"),
    ],
)
def test_xgboost_refusals(parameters, y, value, tmp_path):
    path = tmp_path / "model.ubj"
    train_xgboost(path, parameters, y)
    with pytest.raises(FailureError) as caught:
        xgboost_model.load(path, Wishes(opset=18))
    assert value in caught.value.value
    assert "Train with" in caught.value.fix


@pytest.mark.parametrize("value", ["linear_tree", "zero_as_missing"])
def test_lightgbm_refusals(value, tmp_path):
    path = tmp_path / "model.txt"
    train_lightgbm(path, {"objective": "regression", value: True}, POSITIVE, np.maximum(CLEAN, 0))
    with pytest.raises(FailureError) as caught:
        lightgbm_model.load(path, Wishes(opset=18))
    assert caught.value.value == value
    assert value in caught.value.fix


def test_lightgbm_with_an_objective_of_ones_own(tmp_path):
    path = tmp_path / "model.txt"
    train_lightgbm(path, {"objective": lambda answers, table: (answers - table.get_label(), np.ones_like(answers))}, POSITIVE)
    with pytest.raises(FailureError, match="an objective that is not exported") as caught:
        lightgbm_model.load(path, Wishes(opset=18))
    assert caught.value.value == "none"


@pytest.mark.parametrize("module", [xgboost_model, lightgbm_model])
def test_a_damaged_file_is_refused(module, tmp_path):
    path = tmp_path / "model.ubj"
    path.write_bytes(b"this is no booster")
    with pytest.raises(FailureError, match="cannot be read by"):
        module.load(path, Wishes(opset=18))


@pytest.mark.parametrize(
    "inputs",
    [
        (WishedInput("a", "float32"), WishedInput("b", "float32")),
        (WishedInput("a", "float64"),),
        (WishedInput("a", "float32", (-1, 4)),),
    ],
)
def test_inputs_that_contradict_the_model_are_refused(inputs, tmp_path):
    path = tmp_path / "model.txt"
    train_lightgbm(path, {"objective": "binary"}, BINARY)
    with pytest.raises(FailureError, match="takes one input"):
        lightgbm_model.load(path, Wishes(opset=18, inputs=inputs))
    with pytest.raises(FailureError, match="has 2 outputs"):
        lightgbm_model.load(path, Wishes(opset=18, outputs=("label",)))
