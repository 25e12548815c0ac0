"""Which stages a build has, for every kind of source and engine; and real builds of those that no other test runs."""

import io
import json
import tarfile
import urllib.request

import pytest
import yaml
from e2e_small_model import FEATURES, write_model_folder

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import BaseImageError, ImageError, SourceError
from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.oci import File, Layer, bake, resolve
from gpuserve_images.pipeline.build import build, published
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target

CPU, GPU = Target(), Target("gpu")


@pytest.fixture
def folder(tmp_path):
    return write_model_folder(tmp_path / "model").parent


def chain(folder, build: dict, target: Target = CPU, base: str = "registry/base:1", **changes: object):
    data = yaml.safe_load((folder / "small.yaml").read_text()) | changes | {"builds": {"b": build}}
    return plan(Job(ModelSpec.parse(data), "b", folder, target), base)


def names(chain) -> list[list[str]]:
    return [[stage.name for stage in way.stages().values()] for way in chain.ways]


ORT = {"engine": "onnxruntime"}
RTX = {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]}
INT8 = {"precision": "int8", "calibrate": "samples"}
RUN = ("verify-engine", "time-engine")
"""Stages that run an engine, of which each architecture has its own; only where its GPU is do they run."""


@pytest.mark.usefixtures("named_tensorrt")
@pytest.mark.parametrize(
    ("build", "target", "ways"),
    [
        (ORT, CPU, [["optimise", "verify", "capacity", "layout"]]),
        (ORT, GPU, [["optimise", "verify", "layout"]]),
        (ORT | {"precision": "fp16"}, CPU, [["optimise", "fp16", "verify", "capacity", "layout"]]),
        (ORT | INT8, CPU, [["quantise", "verify", "capacity", "layout"]] * 2),
        (ORT | INT8, GPU, [["quantise", "verify", "layout"]]),
        (ORT | {"precision": "int8-dynamic"}, CPU, [["quantise", "verify", "capacity", "layout"]]),
        (RTX, CPU, [["optimise", "compile", "compile", "verify", *RUN, *RUN, "layout"]]),
        (RTX | INT8, CPU, [["optimise", "quantise", "compile", "compile", "verify", *RUN, *RUN, "layout"]]),
        (RTX | {"engine": "tensorrt"}, Target("gpu", "sm_89"), [["optimise", "compile", "verify", *RUN, "layout"]]),
        ({"engine": "native"}, CPU, [["layout"]]),
    ],
)
def test_the_stages_of_each_kind_of_build(folder, build, target, ways):
    assert names(chain(folder, build, target)) == ways


@pytest.mark.usefixtures("named_tensorrt")
def test_engines_for_triton_stand_on_a_base_and_others_are_an_artifact(folder):
    assert chain(folder, RTX).base is None
    assert chain(folder, RTX | {"engine": "tensorrt"}, Target("gpu", "sm_89"), base="").base.startswith("nvcr.io/")
    assert chain(folder, ORT, base="").base == "triton-cpu"
    assert chain(folder, ORT | {"base": "scratch"}, base="").base == "scratch"
    with pytest.raises(BaseImageError, match=r"no base image is known for mlserver on a cpu.*Give `base:`"):
        chain(
            folder, {"engine": "native"}, Target(server="mlserver"), base="", source={"file": "small.onnx", "format": "sklearn"}
        )


@pytest.mark.parametrize(
    ("build", "source", "target", "error", "words"),
    [
        ({"engine": "native", "precision": "fp16"}, "small.onnx", CPU, SpecError, "serves the source model as it is"),
        ({"engine": "native"}, "m.joblib", CPU, LayoutError, "cannot serve sklearn models.*mlserver"),
        (ORT, "small.onnx", Target(server="vllm"), LayoutError, "cannot serve onnx models"),
        (ORT, "m.weights", CPU, SourceError, "format"),
    ],
)
def test_what_cannot_be_is_said_at_plan_time(  # noqa: PLR0913, PLR0917 - one column of the table each
    folder, build, source, target, error, words
):
    for name in ("m.joblib", "m.weights"):
        (folder / name).write_bytes(b"\x80\x04some pickle or other.")
    with pytest.raises(error, match=words):
        chain(folder, build, target, source={"file": source})


def test_hugging_face_folders_are_served_as_they_are(folder):
    (folder / "hf").mkdir()
    (folder / "hf/config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    (folder / "hf/model.safetensors").write_bytes(b"0" * 64)
    source = {"file": "hf", "format": "huggingface"}
    with pytest.raises(ImageError, match="engine: native"):
        chain(folder, ORT, source=source)
    assert names(chain(folder, {"engine": "native"}, Target(server="vllm"), source=source)) == [["layout"]]


class Shop:
    def __init__(self, folder, host: str, name: str) -> None:
        self.folder, self.cache = folder, folder.parent / "cache"
        self.registry = f"{host}/{name}"
        self.base = bake(f"{host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference

    def build(self, build_spec: dict, target: Target = CPU, base: str | None = None, **changes: object):
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes | {"builds": {"b": build_spec}}))
        where = {"folder": self.folder, "registry": self.registry, "cache": self.cache, "target": target}
        return build(load_model(path), "b", base=self.base if base is None else base, **where)


@pytest.fixture
def shop(folder, registry, monkeypatch):
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    return Shop(folder, registry.host, f"c{abs(hash(folder)) % 10**9}")


def manifest(reference: str) -> dict:
    host, rest = reference.split("/", 1)
    repository, digest = rest.split("@")
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{digest}")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the test made this address
        return json.load(answer)


def comments(reference: str) -> list[str]:
    host, rest = reference.split("/", 1)
    repository = rest.split("@")[0]
    digest = manifest(reference)["config"]["digest"]
    with urllib.request.urlopen(f"http://{host}/v2/{repository}/blobs/{digest}") as answer:
        return [entry["comment"] for entry in json.load(answer)["history"] if entry.get("comment")]


def in_image(reference: str, path: str) -> bytes:
    """Return a file of a pushed image."""
    host, rest = reference.split("/", 1)
    for layer in manifest(reference)["layers"]:
        with (
            urllib.request.urlopen(f"http://{host}/v2/{rest.split('@')[0]}/blobs/{layer['digest']}") as answer,
            tarfile.open(fileobj=io.BytesIO(answer.read())) as files,
        ):
            if path.lstrip("/") in files.getnames():
                return files.extractfile(path.lstrip("/")).read()
    raise FileNotFoundError(path)


@pytest.fixture
def sklearn_model(folder):
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    numpy = pytest.importorskip("numpy")
    random = numpy.random.default_rng(0)
    features = random.normal(size=(200, FEATURES)).astype(numpy.float32)
    fitted = linear.LogisticRegression().fit(features, (features[:, 0] > 0).astype(int))
    joblib.dump(fitted, folder / "model.joblib")
    return {"file": "model.joblib"}


@pytest.mark.slow
def test_a_scikit_learn_model_is_exported_and_compared_with_scikit_learn_itself(shop, sklearn_model):
    pytest.importorskip("skl2onnx")
    report = shop.build(ORT, source=sklearn_model, verify={"max_abs_error": 1e-4})
    assert [run.stage for run in report.stages] == ["export", "optimise", "verify", "capacity", "layout"]
    assert report.summary.parity.samples == 32
    assert {tensor.name for tensor in report.summary.signature.outputs} >= {"probabilities"}
    again = shop.build(ORT, source=sklearn_model, verify={"max_abs_error": 1e-4}, batch={"max": 4})
    assert {run.stage: run.origin for run in again.stages} == {
        "export": "local",
        "optimise": "local",
        "verify": "made",
        "capacity": "made",
        "layout": "made",
    }


def trained(kind: str, path):
    """Train a booster to tell two classes apart, save it, and return what gives its own probabilities of the second."""
    numpy = pytest.importorskip("numpy")
    features = numpy.random.default_rng(3).normal(size=(200, FEATURES)).astype(numpy.float32)
    labels = (features[:, 0] + features[:, 1] > 0).astype(int)
    framework = pytest.importorskip(kind)
    if kind == "xgboost":
        booster = framework.train(
            {"nthread": 1, "objective": "binary:logistic"}, framework.DMatrix(features, labels), num_boost_round=6
        )
        booster.save_model(path)
        return lambda rows: booster.predict(framework.DMatrix(rows))
    booster = framework.train(
        {"verbose": -1, "num_threads": 1, "objective": "binary"}, framework.Dataset(features, labels), num_boost_round=6
    )
    booster.save_model(path)
    return booster.predict


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "file"), [("xgboost", "model.ubj"), ("lightgbm", "model.txt")])
def test_a_booster_comes_out_as_an_image_that_answers_as_it_does_itself(kind, file, shop):
    numpy, onnxruntime = pytest.importorskip("numpy"), pytest.importorskip("onnxruntime")
    answers = trained(kind, shop.folder / file)
    export = {"inputs": [{"name": "measured", "shape": [-1, FEATURES]}]}
    report = shop.build(ORT, source={"file": file}, export=export, verify={"max_abs_error": 1e-4})
    assert [run.stage for run in report.stages] == ["export", "optimise", "verify", "capacity", "layout"]
    assert report.summary.parity.batches == (1, 8, 16)  # one, the preferred, the largest: as docs/model-images.md says
    session = onnxruntime.InferenceSession(in_image(report.reference, "/models/small/1/model.onnx"))
    assert [(put.name, put.shape) for put in session.get_inputs()] == [("measured", ["batch", FEATURES])]
    assert {put.name: put.shape[0] for put in session.get_outputs()} == {"label": "batch", "probabilities": "batch"}
    assert b'name: "measured"' in in_image(report.reference, "/models/small/config.pbtxt")
    rows = numpy.random.default_rng(4).normal(size=(5, FEATURES)).astype(numpy.float32)
    wanted = answers(rows)
    labels, probabilities = session.run(["label", "probabilities"], {"measured": rows})
    numpy.testing.assert_allclose(probabilities, numpy.column_stack([1 - wanted, wanted]), atol=1e-5)
    assert labels.ravel().tolist() == (wanted > 0.5).astype(int).tolist()


def test_a_model_served_as_it_is_goes_into_the_image_untouched(shop, sklearn_model):
    server = Target(server="mlserver")
    report = shop.build({"engine": "native"}, server, source=sklearn_model, verify={})
    assert report.summary.parity is None
    assert "parity is not applicable" in report.notes[0]
    assert "/models/small/1/model.joblib" in comments(report.reference)
    assert "/models/small/1/model-settings.json" in comments(report.reference)
    assert published(report.tag).summary == report.summary


@pytest.mark.slow
def test_an_image_of_the_model_alone_has_no_base(shop):
    report = shop.build(ORT | {"base": "scratch"}, base="")
    assert [name.rpartition("/")[2] for name in comments(report.reference)] == ["config.pbtxt", "model.onnx"]
    assert len(manifest(report.reference)["layers"]) == 2
    assert "org.opencontainers.image.base.name" not in resolve(report.reference).annotations


def test_warm_up_samples_are_content_of_the_image(folder):
    zeros, samples = (chain(folder, ORT, layout={"warmup": kind}) for kind in ("zeros", "samples"))
    assert zeros.ways[0].layout.key != samples.ways[0].layout.key
    (folder / "samples/0.npz").write_bytes((folder / "samples/1.npz").read_bytes())
    assert chain(folder, ORT, layout={"warmup": "samples"}).ways[0].layout.key != samples.ways[0].layout.key
    assert chain(folder, ORT, layout={"warmup": "zeros"}).ways[0].layout.key == zeros.ways[0].layout.key
