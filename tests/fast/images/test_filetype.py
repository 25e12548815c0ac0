"""The quick start's model: our files-to-tensors code answers as Google's own package does, and its builds hold their bars."""

from pathlib import Path

import numpy as np
import pytest
from magika import Magika

from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.samples.codec import batches, encode_all, load_codec
from gpuserve_images.samples.picking import sample_set
from gpuserve_images.sources.resolving import resolve
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

MODELS = Path(__file__).parents[3] / "stacks" / "models"


@pytest.fixture(scope="module")
def model():
    return load_model(MODELS / "filetype.yaml")


@pytest.fixture(scope="module")
def codec(model):
    return load_codec(model.io, MODELS)


@pytest.fixture(scope="module")
def source(model):
    return resolve(model.source, MODELS)


def answers(path: Path, codec, encoded) -> list[str]:
    session = Session(path)
    outputs = [session.run(batch)["target_label"] for batch in batches(encoded.tensors, 16)]
    return [codec.decode({"target_label": row[np.newaxis]}) for row in np.concatenate(outputs)[: len(encoded.tensors)]]


@pytest.mark.slow
def test_every_sample_gets_the_answer_of_the_magika_package(model, codec, source):
    files = sample_set(model, "fp32", MODELS).verify[::2]
    encoded = encode_all(codec, files, read_signature(source.path), "verify.inputs")
    assert len(encoded.files) > 100
    magika = Magika()
    expected = [str(result.output.label) for result in magika.identify_paths(list(encoded.files))]
    assert answers(source.path, codec, encoded) == expected
    assert len(set(expected)) >= 15


@pytest.mark.parametrize("size", [8, 9, 1023, 1024, 1025, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("edge", ["letters", "spaces", "bytes"])
def test_features_at_the_edges_of_magikas_blocks(tmp_path, codec, size, edge):
    content = {
        "letters": (b"import os\nprint(os.environ)\n" * 400)[:size],
        "spaces": b"  \n\t" + (b"a b\n" * 3000)[: max(8, size - 8)] + b" \n \r",
        "bytes": np.random.default_rng(size).bytes(size),
    }[edge]
    path = tmp_path / "file"
    path.write_bytes(content)
    magika = Magika()
    expected = magika.identify_bytes(content)
    session = Session(resolve(load_model(MODELS / "filetype.yaml").source, MODELS).path)
    outputs = session.run(codec.encode(path))
    assert codec.decode(outputs) == str(expected.output.label)
    assert float(outputs["target_label"].max()) == pytest.approx(expected.score, abs=2e-3)


@pytest.mark.parametrize("content", [b"", b"short", b" \n" * 2000])
def test_too_few_bytes_for_the_model_are_refused(tmp_path, codec, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the model needs at least 8"):
        codec.encode(path)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("build", ["fp32", "int8"])
def test_the_builds_hold_their_bars_on_real_files(model, build, tmp_path):
    with Runner(tmp_path) as runner:
        made = make(plan(Job(model, build, MODELS, Target())), runner).summary
    assert made.parity is not None
    assert made.parity.samples > 150
    assert made.parity.batches == (1, 8, 32)
    if build == "fp32":
        assert made.quantisation == "none"
        assert made.parity.max_abs_error <= 1e-4
        assert made.parity.top1_agreement == 1
    else:
        assert made.quantisation == "static"
        assert made.parity.top1_agreement >= 0.97
