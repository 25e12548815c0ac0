"""MLServer, TorchServe and KServe layouts as files, and what each server refuses before anything is built."""

import json
import zipfile

import pytest

from gpuserve_images.layouts.choosing import FORMATS, SERVERS, identity, lay_out, require_server
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec
from gpuserve_images.onnx_model.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 3)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1, 1)),),
    opset=17,
)
DIGEST = "sha256:" + "0" * 64


def one_file(tmp_path, name, form, signature=None):
    (tmp_path / name).write_bytes(b"model")
    return ServedModel.of("m", form, tmp_path / name, signature)


def laid(server, model, tmp_path, batch=None, **options):
    wishes = Wishes(BatchSpec.parse(batch or {}), LayoutSpec.parse(options), scratch=tmp_path)
    return lay_out(server, model, wishes)[0]


def test_mlserver_settings(tmp_path):
    model = one_file(tmp_path, "trees.ubj", "xgboost", SIGNATURE)
    files = laid("mlserver", model, tmp_path, {"max": 16, "queue_delay": "5ms"}, instances=3, response_cache=True)
    settings = json.loads(files["/models/m/1/model-settings.json"])
    assert settings["implementation"] == "mlserver_xgboost.XGBoostModel"
    assert settings["parameters"] == {"uri": "./trees.ubj", "version": "1"}
    assert (settings["max_batch_size"], settings["max_batch_time"], settings["cache_enabled"]) == (16, 0.005, True)
    assert settings["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    server = json.loads(files["/models/settings.json"])
    assert (server["parallel_workers"], server["cache_enabled"]) == (3, True)
    assert "http_port" not in server


def test_mlserver_writes_no_settings_over_a_model(tmp_path):
    path = tmp_path / "model-settings.json"
    path.write_text('{"learner": {}}')
    with pytest.raises(LayoutError, match=r"model trees \(model-settings.json\): has the name of the file that tells MLServer"):
        laid("mlserver", ServedModel.of("trees", "xgboost", path), tmp_path)


def test_mlserver_leaves_out_versions_that_are_not_offered(tmp_path):
    (tmp_path / "m.txt").write_bytes(b"trees")
    model = ServedModel("m", "lightgbm", {number: ModelFiles.of(tmp_path / "m.txt") for number in (1, 2, 3)})
    folders = {path.split("/")[3] for path in laid("mlserver", model, tmp_path, versions={"latest": 2}) if path.count("/") > 3}
    assert folders == {"2", "3"}


@pytest.mark.parametrize(
    ("server", "form", "name"),
    [
        ("mlserver", "xgboost", "model.pkl"),
        ("mlserver", "lightgbm", "model.pkl"),
        ("mlserver", "sklearn", "model.onnx"),
        ("torchserve", "torch", "model.onnx"),
        ("torchserve", "onnx", "model.pb"),
        ("kserve", "sklearn", "model.skops"),
        ("kserve", "lightgbm", "model.json"),
    ],
)
def test_a_file_that_the_server_cannot_read_is_refused(tmp_path, server, form, name):
    model = one_file(tmp_path, name, form, SIGNATURE)
    with pytest.raises(LayoutError, match=rf"model m \({name}\): is no file that .*Save the model as one of \['model\."):
        laid(server, model, tmp_path)


def properties(files):
    lines = files["/models/config/config.properties"].decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_torchserve_properties(tmp_path):
    model = one_file(tmp_path, "model.onnx", "onnx", SIGNATURE)
    files = laid("torchserve", model, tmp_path, {"max": 4, "queue_delay": "0.2ms"}, instances=2)
    found = properties(files)
    served = json.loads(found["models"])["m"]["1.0"]
    assert {"minWorkers": 2, "maxWorkers": 2, "batchSize": 4, "maxBatchDelay": 1}.items() <= served.items()
    assert found["management_address"].startswith("http://127.0.0.1")
    assert found["model_store"] == "/models/model-store"
    assert files["/models/model-store/m.mar"].is_file()


def test_torchserve_finds_external_data_where_the_model_names_it(tmp_path):
    for name in ("net.onnx", "weights/w.bin", "weights/more/b, 2.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    beside = [tmp_path / "weights/w.bin", tmp_path / "weights/more/b, 2.bin"]
    model = ServedModel.of("m", "onnx", tmp_path / "net.onnx", SIGNATURE, beside)
    with zipfile.ZipFile(laid("torchserve", model, tmp_path)["/models/model-store/m.mar"]) as archive:
        own = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith((".onnx", ".bin"))}
        assert {"MAR-INF/MANIFEST.json", "model-config.yaml", "torchserve_handler.py"} <= set(archive.namelist())
    assert own == {name: name for name in ("net.onnx", "weights/w.bin", "weights/more/b, 2.bin")}


def test_torchserve_names_its_extra_when_the_archiver_is_absent(tmp_path, monkeypatch):
    monkeypatch.setattr("gpuserve_images.layouts.torchserve.find_spec", lambda _: None)
    with pytest.raises(LayoutError, match=r"pip install 'gpuserve\[torchserve\]'"):
        laid("torchserve", one_file(tmp_path, "model.onnx", "onnx", SIGNATURE), tmp_path)


@pytest.mark.parametrize(
    ("form", "name", "expected"),
    [
        ("onnx", "model.onnx", {"/models/m/config.pbtxt", "/models/m/1/model.onnx"}),
        ("sklearn", "forest.joblib", {"/models/model.joblib"}),
        ("xgboost", "trees.json", {"/models/model.json"}),
        ("lightgbm", "trees.txt", {"/models/model.bst"}),
        ("torch", "net.pt", {"/models/model-store/m.mar", "/models/config/config.properties", "/models/config/log4j2.xml"}),
        ("tensorflow", "saved_model.pb", {"/models/1/saved_model.pb"}),
    ],
)
def test_kserve_finds_each_format_where_its_server_looks(tmp_path, form, name, expected):
    model = one_file(tmp_path, name, form, SIGNATURE)
    if form == "torch":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("net/constants.pkl", b"")
    files = laid("kserve", model, tmp_path)
    assert set(files) == expected
    if form == "torch":
        assert properties(files)["model_store"] == "/mnt/models/model-store"


def test_kserve_would_not_know_which_of_two_files_is_the_model(tmp_path):
    (tmp_path / "old.json").write_bytes(b"{}")
    one_file(tmp_path, "trees.json", "xgboost")
    model = ServedModel.of("m", "xgboost", tmp_path / "trees.json", beside=[tmp_path / "old.json"])
    with pytest.raises(LayoutError, match=r"\(\['old.json'\]\): has other files"):
        laid("kserve", model, tmp_path)


@pytest.mark.parametrize(
    ("server", "form", "able"),
    [
        ("mlserver", "onnx", "['triton', 'torchserve', 'kserve']"),
        ("triton", "sklearn", "['mlserver', 'kserve']"),
        ("vllm", "onnx", "['triton', 'torchserve', 'kserve']"),
        ("torchserve", "tensorrt", "['triton', 'kserve']"),
        ("tfserving", "torch", "['torchserve', 'kserve']"),
    ],
)
def test_a_server_that_lacks_a_format_names_those_that_have_it(server, form, able):
    with pytest.raises(LayoutError) as refused:
        require_server(server, form)
    assert f"Use one of {able}" in str(refused.value)


@pytest.mark.parametrize(
    ("server", "form", "options", "words"),
    [
        ("torchserve", "onnx", {"response_cache": True}, r"layout.response_cache: is not a feature of torchserve.*\['triton', 'mlserver'\]"),
        ("mlserver", "sklearn", {"warmup": "samples"}, "layout.warmup: samples: is not a feature of mlserver"),
        ("mlserver", "sklearn", {"threads": {"intra_op": 1}}, "layout.threads: is not a feature of mlserver"),
        ("torchserve", "onnx", {"versions": "all"}, "layout.versions: is not a feature of torchserve"),
        ("tfserving", "tensorflow", {"instances": 2}, "layout.instances: is not a feature of tfserving"),
        ("mlserver", "sklearn", {"instances": [{"gpus": [0]}]}, "layout.instances by place: is not a feature of mlserver"),
        ("vllm", "huggingface", {"tensorrt": {}}, "layout.tensorrt: is not a feature of vllm"),
        ("kserve", "sklearn", {"instances": 2}, "layout.instances: is not a feature of kserve"),
        ("kserve", "onnx", {"response_cache": True}, r"layout.response_cache: is not a feature of triton as KServe starts it. Fix: Use one of \['triton', 'mlserver'\] as `runtime`"),
        ("kserve", "tensorflow", {"threads": {"intra_op": 1}}, "layout.threads: is not a feature of tfserving as KServe starts it"),
        ("kserve", "tensorflow", {"versions": "all"}, "layout.versions: is not a feature of tfserving as KServe starts it"),
    ],
)  # fmt: skip
def test_options_that_a_server_would_not_hear_are_refused(tmp_path, server, form, options, words):
    name = {"sklearn": "m.joblib", "onnx": "m.onnx"}.get(form, "m")
    with pytest.raises(LayoutError, match=words):
        laid(server, one_file(tmp_path, name, form, SIGNATURE), tmp_path, **options)


def test_under_kserve_the_format_s_own_server_says_which_options_there_are(tmp_path):
    laid("kserve", one_file(tmp_path, "model.onnx", "onnx", SIGNATURE), tmp_path, instances=2, threads={"intra_op": 1})


def test_what_goes_into_the_image_besides_the_model_decides_the_key(monkeypatch, tmp_path):
    before = identity("torchserve")
    assert before["torch-model-archiver"] != "absent"
    (tmp_path / "handler.py").write_text("changed")
    monkeypatch.setattr("gpuserve_images.layouts.torchserve.HANDLER", tmp_path / "handler.py")
    assert identity("torchserve") != before
    assert identity("triton") == {}


def test_every_server_has_a_layout_and_formats():
    assert SERVERS.keys() == FORMATS.keys()
