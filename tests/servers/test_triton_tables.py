"""scikit-learn models of tables in the real tritonserver: columns are asked one by one, and answered as scikit-learn does."""

import joblib
import numpy as np
import pandas as pd
import pytest
from e2e_sklearn import exported
from environments import unpacked
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from triton_server import TritonServer, missing
from tritonclient import grpc as triton

from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import Wishes as ExportWishes
from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.onnx_model.signature import read_signature

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
RANDOM = np.random.default_rng(7)
ROWS = 200
TABLE = pd.DataFrame(
    {
        "age": RANDOM.normal(40, 9, ROWS).astype(np.float32),
        "city": RANDOM.choice(["Bern", "Oslo", "Rome"], ROWS),
        "kids": RANDOM.integers(1, 4, ROWS),
    }
)
WANTED = (TABLE["age"] + 5 * TABLE["kids"] > 50).astype(int)
TYPES = {"float32": "FP32", "int64": "INT64", "object": "BYTES", "str": "BYTES"}


@pytest.mark.parametrize("encoder", [OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(), OrdinalEncoder()], ids=str)
def test_columns_are_answered_as_scikit_learn_does(encoder, tmp_path):
    parts = ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", encoder, ["city", "kids"])])
    estimator = make_pipeline(parts, LogisticRegression()).fit(TABLE, WANTED)
    joblib.dump(estimator, tmp_path / "model.joblib")
    path = tmp_path / "model.onnx"
    exported(sklearn_model.load(tmp_path / "model.joblib", ExportWishes(opset=18)), path)
    files, _ = lay_out("triton", ServedModel.of("people", "onnx", path, read_signature(path)), Wishes())
    inputs = []
    for name, column in TABLE[:8].items():
        inputs.append(triton.InferInput(name, [8, 1], TYPES[column.dtype.name]))
        inputs[-1].set_data_from_numpy(column.to_numpy(object if TYPES[column.dtype.name] == "BYTES" else None).reshape(-1, 1))
    with (
        TritonServer(unpacked(files, tmp_path / "image") / "models", tmp_path) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client,
    ):
        answer = client.infer("people", inputs).as_numpy("probabilities")
    np.testing.assert_allclose(answer, estimator.predict_proba(TABLE[:8]), rtol=1e-4, atol=1e-5)
