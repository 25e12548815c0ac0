"""What is written down about an image: its source and export too, when later stages were there already and asked for neither."""

import hashlib
import json
import shutil
from contextlib import contextmanager

import onnx
import pytest
from e2e_small_model import classifier

from gpuserve_images.oci.bill import bill_of_materials
from gpuserve_images.oci.provenance import provenance
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.pipeline import making
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.records import StageRecord
from gpuserve_images.sources.cache import cache_folder
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import CPU

IMAGE = f"localhost:5000/m/small@sha256:{'0' * 64}"
STAGES = ["optimise", "verify", "capacity", "layout"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)


def made(folder, source, **changes):
    """Make a build as `gpuserve images build` does, and return what is written down about it."""
    data = {"name": "small", "source": source, "builds": {"b": {"engine": "onnxruntime"}}, "verify": {"batches": [1]}}
    chain = plan(Job(ModelSpec.parse(data | changes), "b", folder, CPU), "scratch")
    with Runner(folder / "cache") as runner:
        done = making.make(chain, runner)
        done.files(runner)
        done.report(chain, runner)
        return making.records(chain, runner, done.missed)


def names(records) -> list[str]:
    return [record.stage for record in records]


def test_a_build_from_the_cache_names_its_model_too(tmp_path):
    onnx.save(classifier(), tmp_path / "small.onnx")
    first, again = (made(tmp_path, {"file": "small.onnx"}) for _ in range(2))
    assert names(first) == names(again) == ["source", *STAGES]
    digest = hashlib.sha256((tmp_path / "small.onnx").read_bytes()).hexdigest()
    statement = json.loads(provenance(IMAGE, {}, again, key="k"))
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert found == [{"name": "small.onnx", "digest": {"sha256": digest}}]
    assert digest in bill_of_materials(IMAGE, {"/models/small/1/model.onnx": "1" * 64}, again).decode()


def test_an_image_of_several_models_names_the_source_of_each_once(tmp_path):
    for name in ("small", "first"):
        onnx.save(classifier(), tmp_path / f"{name}.onnx")
    onnx.save(classifier(seed=7), tmp_path / "first.onnx")
    first = {"name": "first", "source": {"file": "first.onnx"}, "builds": {"b": {"engine": "onnxruntime"}}}
    (tmp_path / "first.yaml").write_text(json.dumps(first))
    steps = [{"model": name, "inputs": {"x": "x"}, "outputs": {"scores": name}} for name in ("first", "small")]
    steps[0]["build"] = "b"
    ensemble = {"name": "both", "inputs": ["x"], "outputs": ["first", "small"], "steps": steps}
    builds = {name: {"engine": "onnxruntime"} for name in ("b", "c")}
    for layout, sources in (
        ({"ensemble": ensemble}, ["small.onnx", "first.onnx"]),
        ({"numbers": {1: "b", 2: "c"}}, ["small.onnx"]),
    ):
        found = made(tmp_path, {"file": "small.onnx"}, builds=builds, layout=layout)
        assert [list(record.outputs) for record in found if record.stage == "source"] == [[name] for name in sources]


@pytest.mark.usefixtures("own_cache")
def test_an_address_is_named_without_a_download(tmp_path, web):
    content = classifier().SerializeToString()
    url, digest = web.put("small.onnx", content), hashlib.sha256(content).hexdigest()
    source = {"url": url, "sha256": digest}
    first = made(tmp_path, source)
    assert made(tmp_path, source)[0] == first[0]
    shutil.rmtree(cache_folder())
    web.asked.clear()
    again = made(tmp_path, source)
    assert names(again) == ["source", *STAGES]
    options = {"format": "onnx", "url": url, "revision": None}
    assert again[0] == StageRecord(stage="source", inputs={"small.onnx": digest}, options=options)
    assert web.asked == []


class TestOtherFrameworks:
    """A model that is no ONNX, exported and opened by stand-ins."""

    @pytest.fixture
    def source(self, tmp_path, monkeypatch):
        (tmp_path / "small.joblib").write_bytes(b"a model")
        onnx.save(classifier(), tmp_path / "exported.onnx")

        def export(_files, _kind, _spec, out, *_: object, **__: object):
            onnx.save(classifier(), out)
            return StageRecord(stage="export", outputs={out.name: "1" * 64})

        monkeypatch.setattr("gpuserve_images.pipeline.stages.models.export", export)
        monkeypatch.setattr("gpuserve_images.pipeline.stages.models.identity", lambda *_: "same")
        return {"file": "small.joblib"}

    @pytest.fixture
    def opened(self, tmp_path, monkeypatch):
        """What was held when the framework opened the model."""
        seen: list[str] = []
        monkeypatch.setattr("gpuserve_images.pipeline.runner.use_lock", lambda folder: seen.append("held"))

        class Framework:
            signature = read_signature(tmp_path / "exported.onnx")
            outputs = ("scores",)

            def run(self, inputs):
                return Session(tmp_path / "exported.onnx").run(inputs)

        @contextmanager
        def runner(*_: object, **__: object):
            seen.append("opened")
            yield Framework()

        monkeypatch.setattr("gpuserve_images.pipeline.exam.source_runner", runner)
        return seen

    def test_an_export_from_the_cache_is_named(self, tmp_path, source, opened):
        first, again = (made(tmp_path, source) for _ in range(2))
        assert names(first) == names(again) == ["source", "export", *STAGES]
        assert next(record for record in again if record.stage == "export").outputs == {"model.onnx": "1" * 64}

    def test_files_are_held_before_the_framework_opens_them(self, tmp_path, source, opened):
        made(tmp_path, source)
        opened.clear()
        made(tmp_path, source, verify={"batches": [1, 2]})
        assert opened[:2] == ["held", "opened"]
