"""From YAML to a server's own folder, with the source model as it is (`engine: native`)."""

import json
import zipfile

import onnx
import pytest
import yaml
from e2e_small_model import classifier

from gpuserve_images.errors import BaseImageError, SourceError
from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target

BASE = "registry.example.com/server@sha256:" + "0" * 64


def files(tmp_path, server, source, base=BASE, **changes: object):
    data = {"name": "m", "source": source, "builds": {"own": {"engine": "native"}}} | changes
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(data))
    job = Job(ModelSpec.parse(data), "own", tmp_path, Target(server=server))
    with Runner(tmp_path / "cache") as runner:
        return make(plan(job, base), runner).files(runner)


def test_a_booster_for_mlserver(tmp_path):
    (tmp_path / "trees.json").write_text('{"learner": {}, "version": [3, 0, 0]}')
    found = files(tmp_path, "mlserver", {"file": "trees.json", "format": "xgboost"}, layout={"instances": 2})
    assert set(found) == {"/models/settings.json", "/models/m/1/model-settings.json", "/models/m/1/trees.json"}
    assert json.loads(found["/models/settings.json"].read_text())["parallel_workers"] == 2
    assert found["/models/m/1/trees.json"].read_bytes() == (tmp_path / "trees.json").read_bytes()


def test_a_saved_model_for_tensorflow_serving(tmp_path):
    (tmp_path / "net/assets").mkdir(parents=True)
    (tmp_path / "net/saved_model.pb").write_bytes(b"graph")
    (tmp_path / "net/assets/words.txt").write_text("words")
    found = files(tmp_path, "tfserving", {"file": "net", "format": "tensorflow"})
    configs = {f"/models/{name}.config" for name in ("models", "monitoring", "platform")}
    assert set(found) == configs | {"/models/m/1/saved_model.pb", "/models/m/1/assets/words.txt"}


def test_an_onnx_file_that_would_end_its_server_is_refused(tmp_path):
    graph = "turned = Transpose<perm=[1,0,2]>(x) wide = Cast<to=11>(turned) product = MatMul(wide, w) y = Cast<to=1>(product)"
    inputs = "(float[n,4,4] x, double[4,4] w) => (float[a,b,c] y)"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> g {inputs} {{{graph}}}'), tmp_path / "m.onnx")
    with pytest.raises(SourceError, match=r"ends the process that loads it .* \(SIGSEGV\). Fix: .*`engine: onnxruntime`"):
        files(tmp_path, "triton", {"file": "m.onnx"}, batch={"axis": "none"})


def test_a_scripted_model_for_torchserve(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
    found = files(tmp_path, "torchserve", {"file": "net.pt", "format": "torch"})
    assert found["/models/model-store/m.mar"].read_bytes()[:4] == b"PK\x03\x04"


def test_a_hugging_face_folder_for_vllm_is_checked(tmp_path):
    folder = tmp_path / "chat"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(LayoutError, match=r"model.safetensors: is no more than a pointer of Git LFS"):
        files(tmp_path, "vllm", {"file": "chat", "format": "huggingface"})
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert "/models/m/model.safetensors" in files(tmp_path, "vllm", {"file": "chat", "format": "huggingface"})


def test_a_server_without_a_known_base_asks_for_one(tmp_path):
    (tmp_path / "trees.json").write_text("{}")
    with pytest.raises(BaseImageError, match=r"no base image is known for mlserver on a cpu. Fix: Give `base:`"):
        files(tmp_path, "mlserver", {"file": "trees.json", "format": "xgboost"}, base="")


def test_what_a_server_cannot_do_with_the_source_is_refused_when_the_build_is_planned(tmp_path):
    (tmp_path / "trees.json").write_text("{}")
    with pytest.raises(LayoutError, match=r"cannot serve xgboost models. Fix: Use one of \['mlserver', 'kserve'\]"):
        files(tmp_path, "triton", {"file": "trees.json", "format": "xgboost"})
    onnx.save(classifier(), tmp_path / "m.onnx")
    with pytest.raises(LayoutError, match=r"layout.warmup \(samples\): wants samples .* nothing is asked of build 'own'"):
        files(tmp_path, "triton", {"file": "m.onnx"}, layout={"warmup": "samples"})
    with pytest.raises(LayoutError, match=r"layout.warmup: samples: is not a feature of mlserver"):
        files(tmp_path, "mlserver", {"file": "trees.json", "format": "xgboost"}, layout={"warmup": "samples"})
    assert not (tmp_path / "cache").exists() or not any((tmp_path / "cache").rglob("layout*/*"))
