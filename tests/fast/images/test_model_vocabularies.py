"""Generated texts are made of words that the model knows, so that a build which loses words is found out."""

import joblib
import numpy as np
import onnx
import pytest
from e2e_small_model import classifier
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from gpuserve_images.export.backends import sklearn_model
from gpuserve_images.export.backends.model import WishedInput, Wishes
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import Signature, TensorSpec
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.inputs import generated_inputs
from gpuserve_images.verify.known import Known
from gpuserve_images.verify.spec import GenerateSpec
from gpuserve_images.verify.vocabularies import known_words

TEXTS = ["gut schöne Größe", "schlecht übel", "gut Straße", "übel schlecht Ärger"] * 4
WORDS = ("gut", "größe", "schlecht", "schöne", "straße", "ärger", "übel")
TWO_COLUMNS = np.array([[text, text.upper()] for text in TEXTS], object)
SIGNATURE = Signature(
    inputs=(TensorSpec(name="text", dtype="BYTES", shape=(-1, 1)), TensorSpec(name="number", dtype="FP32", shape=(-1, 2))),
    outputs=(TensorSpec(name="label", dtype="BYTES", shape=(-1,)),),
    opset=18,
)


def exported(estimator, tmp_path, width=1):
    joblib.dump(estimator, tmp_path / "model.joblib")
    inputs = () if hasattr(estimator, "n_features_in_") else (WishedInput("text", "object", (-1, width)),)
    model = sklearn_model.load(tmp_path / "model.joblib", Wishes(opset=18, inputs=inputs or (WishedInput("text", "object"),)))
    model.export(tmp_path / "model.onnx")
    return tmp_path / "model.onnx", model


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), set(WORDS)),
        (
            CountVectorizer(ngram_range=(2, 2)),
            {"gut schöne", "schöne größe", "schlecht übel", "gut straße"} | {"übel schlecht"},
        ),
        (make_union(CountVectorizer(vocabulary=["gut", "x"]), CountVectorizer(vocabulary=["übel"])), {"gut", "x", "übel"}),
    ],
    ids=["words", "pairs", "two vocabularies"],
)
def test_words_that_a_model_knows(estimator, words, tmp_path):
    path, _ = exported(estimator.fit(TEXTS, ["pos", "neg"] * 8), tmp_path)
    (found,) = known_words(path).values()
    assert words <= set(found)


def test_words_of_columns_and_no_words(tmp_path):
    columns = [("a", CountVectorizer(vocabulary=["gut"]), 0), ("b", CountVectorizer(vocabulary=["übel"]), 1)]
    path, _ = exported(ColumnTransformer(columns).fit(TWO_COLUMNS), tmp_path)
    assert known_words(path) == {"text": ("gut", "übel")}
    onnx.save(classifier(), tmp_path / "numbers.onnx")
    assert known_words(tmp_path / "numbers.onnx") == {}


def test_texts_of_known_words():
    made = [generate(SIGNATURE, GenerateSpec(count=200, seed=3), Known(words={"text": WORDS})) for _ in range(2)]
    texts = [request["text"].item() for request in made[0]]
    assert texts == [request["text"].item() for request in made[1]]
    assert {
        word for text in texts for word in text.lower().replace("strasse", "straße").replace("grösse", "größe").split()
    } == set(WORDS)
    assert {len(text.split()) for text in texts} == {1, 2, 3, 4}
    assert 0.1 < np.mean([text.isupper() for text in texts]) < 0.4
    assert all((request["number"] != 0).all() for request in made[0])


def test_a_build_that_loses_words_answers_generated_texts_otherwise(tmp_path):
    path, source = exported(
        make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(TEXTS, ["pos", "neg"] * 8), tmp_path
    )
    narrow = onnx.load(path)
    for node in narrow.graph.node:
        for attribute in node.attribute:
            if attribute.name == "tokenexp":
                attribute.s = rb"\w{2,}"
    onnx.save(narrow, tmp_path / "narrow.onnx")
    requests = generated_inputs(
        Signature(inputs=SIGNATURE.inputs[:1], outputs=SIGNATURE.outputs, opset=18), GenerateSpec(), 8, path
    ).tensors
    asked = {"text": np.concatenate([request["text"] for request in requests])}
    right, wrong = (list(Session(each).run(asked).values())[1] for each in (path, tmp_path / "narrow.onnx"))
    np.testing.assert_allclose(right, source.run(asked)[1], atol=1e-5)
    assert np.abs(wrong - right).max() > 0.1
