"""scikit-learn: exported in a process of its own, with parity against scikit-learn; files that cannot be trusted to it are refused."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
import sklearn
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, PowerTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from gpuserve_images.errors import ExportError
from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import FailureError, WishedInput, Wishes
from gpuserve_images.export.exporting import export, identity, source_runner
from gpuserve_images.export.spec import ExportSpec
from gpuserve_images.export.tidying import tidy
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature
from gpuserve_images.records import sha256_file

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 4)).astype(np.float32)
BINARY = (X[:, 0] > 0).astype(int)
CLASSES = (X[:, 0] * 2).round().clip(-1, 1).astype(int) + 1
WORDS = np.array(["no", "yes"])[BINARY]


@dataclass(frozen=True)
class Files:
    entry: Path
    sha256: str = "0" * 64


def saved(estimator, tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(estimator, path)
    return path


V2 = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}


def signature_of(model):
    return [
        [TensorSpec(name=port.name, dtype=V2[port.dtype], shape=port.shape) for port in group]
        for group in (model.inputs, model.outputs)
    ]


def here(path, tmp_path, *, rows=X, **wishes):
    """Export in this process, which takes no start, and compare at several batch sizes."""
    model = sklearn_model.load(path, Wishes(opset=18, **wishes))
    out = tmp_path / "model.onnx"
    model.export(out)
    ports = signature_of(model)
    tidy(out, *ports, str(path))
    onnx.checker.check_model(str(out), full_check=True)
    session = Session(out)
    assert Signature(inputs=tuple(ports[0]), outputs=tuple(ports[1]), opset=18) == session.signature
    for size in (1, 2, len(rows)):
        inputs = {model.inputs[0].name: rows[:size].astype(model.inputs[0].dtype)}
        for port, want, got in zip(model.outputs, model.run(inputs), session.run(inputs).values(), strict=True):
            assert got.shape == want.shape
            if want.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5, err_msg=port.name)
            else:
                assert list(got) == list(want), port.name
    return model


@pytest.mark.slow
def test_export_and_true_source(tmp_path):
    path = saved(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, CLASSES), tmp_path)
    before = path.read_bytes()
    spec = ExportSpec.parse({"inputs": [{"name": "flowers"}], "outputs": ["kind", "certainty"]})
    out, again = tmp_path / "model.onnx", tmp_path / "again.onnx"
    seen = []
    record = export(Files(path), "sklearn", spec, out, lambda *step: seen.append(step), folder=tmp_path)
    assert sha256_file(out) == record.outputs["model.onnx"]
    assert path.read_bytes() == before
    assert seen == [("export", step, 3) for step in range(4)]
    assert set(record.tools) == {"scikit-learn", "skl2onnx", "onnx", "numpy"}
    signature = read_signature(out)
    assert signature.opset == 18
    assert signature.batched
    assert signature.inputs == (TensorSpec(name="flowers", dtype="FP32", shape=(-1, 4)),)
    assert [tensor.name for tensor in signature.outputs] == ["kind", "certainty"]
    model = onnx.load(out)
    assert "ZipMap" not in {node.op_type for node in model.graph.node}
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)} == {"batch"}
    with source_runner(Files(path), "sklearn", spec, folder=tmp_path) as source:
        assert source.signature.same_interface(signature)
        for size in (1, 7, 200):
            want, got = source.run({"flowers": X[:size]}), Session(out).run({"flowers": X[:size]})
            assert (want["kind"] == got["kind"]).all()
            np.testing.assert_allclose(got["certainty"], want["certainty"], atol=1e-6)
        with pytest.raises(ExportError, match="X has 3 features"):
            source.run({"flowers": X[:, :3]})
        source.export(again)
        tidy(again, source.signature.inputs, source.signature.outputs, str(path))
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("estimator", "y", "outputs"),
    [
        (LogisticRegression(), BINARY, ["label", "probabilities"]),
        (LogisticRegression(), WORDS, ["label", "probabilities"]),
        (LogisticRegression(), BINARY.astype(bool), ["label", "probabilities"]),
        (LogisticRegression(), BINARY.astype(float), ["label", "probabilities"]),
        (HistGradientBoostingClassifier(max_iter=5), CLASSES, ["label", "probabilities"]),
        (MLPClassifier((8,), max_iter=5), CLASSES, ["label", "probabilities"]),
        (KNeighborsClassifier(), CLASSES, ["label", "probabilities"]),
        (LinearSVC(), BINARY, ["label"]),
        (SVC(), CLASSES, ["label"]),
        (RandomForestRegressor(5), X[:, 0], ["prediction"]),
        (LinearRegression(), X[:, :2], ["prediction"]),
        (StandardScaler(), None, ["transformed"]),
        (KMeans(3, n_init=1), None, ["label", "distances"]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Attribute `prob:FutureWarning")
def test_estimators(estimator, y, outputs, tmp_path):
    model = here(saved(estimator.fit(X, y), tmp_path), tmp_path)
    assert [port.name for port in model.outputs] == outputs
    assert ("no probabilities" in " ".join(model.notes)) == (outputs == ["label"])


def test_outlier_detector_gives_its_labels_one_axis(tmp_path):
    model = here(saved(IsolationForest(n_estimators=5).fit(X), tmp_path), tmp_path)
    assert [(port.name, port.shape) for port in model.outputs] == [("label", (-1, 1)), ("scores", (-1, 1))]


def test_fp64(tmp_path):
    wishes = {"inputs": (WishedInput("input", "float64"),)}
    model = here(saved(LinearRegression().fit(X.astype(np.float64), X[:, 0] * 1e9), tmp_path), tmp_path, **wishes)
    assert model.outputs[0].dtype == "float64"


def test_columns(tmp_path):
    table = pd.DataFrame({"petal width (cm)": X[:, 0], "colour": np.array(["red", "blue"])[BINARY]})
    both = ColumnTransformer([("n", StandardScaler(), ["petal width (cm)"]), ("c", OneHotEncoder(), ["colour"])])
    path = saved(make_pipeline(both, LogisticRegression()).fit(table, BINARY), tmp_path)
    model = sklearn_model.load(
        path, Wishes(opset=18, inputs=(WishedInput("width", "float32"), WishedInput("colour", "object")))
    )
    model.export(tmp_path / "model.onnx")
    tidy(tmp_path / "model.onnx", *signature_of(model), str(path))
    inputs = {"width": X[:9, :1], "colour": table["colour"].to_numpy(object)[:9].reshape(-1, 1)}
    want, got = model.run(inputs), Session(tmp_path / "model.onnx").run(inputs)
    np.testing.assert_allclose(got["probabilities"], want[1], atol=1e-6)


class FromElsewhere(LogisticRegression):
    """An estimator that skl2onnx cannot know."""


def refused(path, **wishes):
    with pytest.raises(FailureError) as caught:
        sklearn_model.load(path, Wishes(opset=18, **wishes))
    return caught.value


def test_version_is_read_before_the_pickle_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    path = tmp_path / "model.pkl"
    state = {"_sklearn_version": "1.2.2", "trap": Trap()}
    path.write_bytes(pickle.dumps(state, protocol=4))
    failure = refused(path)
    assert "saved by scikit-learn 1.2.2" in failure.reason
    assert "scikit-learn==1.2.*" in failure.fix


def test_version_inside_a_compressed_file(tmp_path, monkeypatch):
    path = tmp_path / "model.joblib"
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "1.2.2")
        joblib.dump(LogisticRegression().fit(X, BINARY), path, compress=3)
    assert b"1.2.2" not in path.read_bytes()
    assert "saved by scikit-learn 1.2.2" in refused(path).reason


def test_another_patch_release_is_read_and_noted(tmp_path, monkeypatch):
    feature_release = ".".join(sklearn.__version__.split(".")[:2])
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", f"{feature_release}.99")
        path = saved(LogisticRegression().fit(X, BINARY), tmp_path)
    notes = sklearn_model.load(path, Wishes(opset=18)).notes
    assert notes == [f"saved by scikit-learn {feature_release}.99, read by {sklearn.__version__}"]


def test_unfitted(tmp_path):
    assert "is not fitted" in refused(saved(LogisticRegression(), tmp_path)).reason


def test_no_estimator(tmp_path):
    failure = refused(saved({"weights": X}, tmp_path))
    assert (failure.reason, failure.value) == ("holds no scikit-learn estimator", "dict")


def test_damaged(tmp_path):
    path = saved(LogisticRegression().fit(X, BINARY), tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    assert "cannot be unpickled" in refused(path).reason


def test_code_of_a_module_that_is_not_installed(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cmy_company.features\nClean\n.")
    assert "code of the module 'my_company'" in refused(path).reason


@pytest.mark.parametrize("big", [3_000_000_000, 2**63 + 5])
def test_labels_that_skl2onnx_would_cut_off(big, tmp_path):
    labels = BINARY.astype(np.uint64) * np.uint64(big)
    failure = refused(saved(GaussianNB().fit(X, labels), tmp_path))
    assert "does not fit INT32" in failure.reason
    assert failure.value == str(big)


def test_several_targets_at_once(tmp_path):
    path = saved(KNeighborsClassifier().fit(X, np.column_stack([BINARY, CLASSES])), tmp_path)
    assert "classifies 2 targets at once" in refused(path).reason


def test_an_estimator_without_a_converter_is_named(tmp_path):
    model = sklearn_model.load(saved(FromElsewhere().fit(X, BINARY), tmp_path), Wishes(opset=18))
    with pytest.raises(FailureError) as caught:
        model.export(tmp_path / "model.onnx")
    assert "no converter" in caught.value.reason
    assert caught.value.value.endswith("FromElsewhere")


def test_a_setting_without_a_converter_is_told(tmp_path):
    model = sklearn_model.load(saved(GaussianProcessClassifier().fit(X, CLASSES), tmp_path), Wishes(opset=18))
    with pytest.raises(FailureError, match="is not exported by skl2onnx"):
        model.export(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ((WishedInput("input", "float32", (-1, 3)),), "takes 4 features"),
        ((WishedInput("input", "int8"),), "is a type that scikit-learn models are not exported with"),
        ((WishedInput("a", "float32"), WishedInput("b", "float32")), "an array without column names"),
    ],
)
def test_inputs_that_contradict_the_model(inputs, reason, tmp_path):
    assert reason in refused(saved(LogisticRegression().fit(X, BINARY), tmp_path), inputs=inputs).reason


def test_identity_changes_with_what_decides_the_export(tmp_path):
    assert identity("sklearn", ExportSpec(), tmp_path) == identity("sklearn", ExportSpec(), tmp_path)
    assert identity("sklearn", ExportSpec(), tmp_path) != identity("sklearn", ExportSpec(opset=17), tmp_path)
    assert identity("sklearn", ExportSpec(), tmp_path) != identity("lightgbm", ExportSpec(), tmp_path)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (make_pipeline(SimpleImputer(), LogisticRegression()), "cannot be run by ONNX Runtime"),
        (make_pipeline(PolynomialFeatures(2), PowerTransformer(), LogisticRegression()), "is not exported by skl2onnx"),
        (make_pipeline(SelectKBest(k=2), RandomForestClassifier(3)), "became another interface as ONNX: output probabilities"),
    ],
    ids=["no kernel", "no form", "narrower answers"],
)
def test_where_fp64_has_no_form_fp32_is_advised(estimator, reason, tmp_path):
    path = saved(estimator.fit(X, X[:, 0] > 0), tmp_path)
    wide = ExportSpec.parse({"inputs": [{"name": "x", "dtype": "FP64", "shape": [-1, X.shape[1]]}]})
    with pytest.raises(ExportError, match=rf"model.joblib: {reason}.*[^.]\. Fix: Declare the inputs as FP32"):
        export(Files(path), "sklearn", wide, tmp_path / "model.onnx", folder=tmp_path)
    assert export(Files(path), "sklearn", ExportSpec(), tmp_path / "model.onnx", folder=tmp_path).stage == "export"
