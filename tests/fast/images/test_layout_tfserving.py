"""TensorFlow Serving's three files, read back by its own protobuf messages, and SavedModels that are not whole."""

import pytest

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec
from gpuserve_images.layouts.tfserving_protobuf import message, parsed
from gpuserve_images.onnx_model.signature import Signature, TensorSpec
from gpuserve_images.target import Target

NAMES = ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")


def saved_model(folder, names=NAMES):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return ModelFiles.of(folder)


@pytest.fixture
def model(tmp_path):
    return ServedModel("flowers", "tensorflow", {number: saved_model(tmp_path / str(number)) for number in (1, 2)})


def laid(model, batch=None, target=None, **options):
    wishes = Wishes(BatchSpec.parse(batch or {}), LayoutSpec.parse(options), target or Target())
    files, _ = lay_out("tfserving", model, wishes)
    return files


def read(files, name, kind):
    return parsed(kind, files[f"/models/{name}"].decode())


def session(files):
    platform = read(files, "platform.config", "PlatformConfigMap")
    adapter = message("SavedModelBundleSourceAdapterConfig")()
    assert platform.platform_configs["tensorflow"].source_adapter_config.Unpack(adapter)
    return adapter.legacy_config


def test_the_model_and_its_metrics(model):
    files = laid(model)
    (config,) = read(files, "models.config", "ModelServerConfig").model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("flowers", "/models/flowers", "tensorflow")
    assert not config.HasField("model_version_policy")
    monitoring = read(files, "monitoring.config", "MonitoringConfig").prometheus_config
    assert (monitoring.enable, monitoring.path) == (True, "/monitoring/prometheus/metrics")
    assert {f"/models/flowers/{number}/{name}" for number in (1, 2) for name in NAMES} < set(files)


@pytest.mark.parametrize(
    ("policy", "kind", "numbers"), [("all", "all", []), ({"latest": 2}, "latest", 2), ({"only": [2, 1]}, "specific", [1, 2])]
)
def test_version_policies(model, policy, kind, numbers):
    (config,) = read(laid(model, versions=policy), "models.config", "ModelServerConfig").model_config_list.config
    found = config.model_version_policy
    assert found.WhichOneof("policy_choice") == kind
    if kind == "latest":
        assert found.latest.num_versions == numbers
    elif kind == "specific":
        assert list(found.specific.versions) == numbers


def test_batches_and_threads(model):
    files = laid(model, {"max": 32, "preferred": [4, 16], "queue_delay": "2.5ms"}, threads={"intra_op": 2, "inter_op": 1})
    found = session(files)
    batching = found.batching_parameters
    assert (batching.max_batch_size.value, batching.batch_timeout_micros.value) == (32, 2500)
    assert list(batching.allowed_batch_sizes) == [4, 16, 32]
    assert (found.session_config.intra_op_parallelism_threads, found.session_config.inter_op_parallelism_threads) == (2, 1)
    assert not found.session_config.HasField("gpu_options")
    assert session(laid(model, target=Target("gpu"))).session_config.gpu_options.allow_growth


def test_no_batches_without_a_batch_axis(model):
    tensor = TensorSpec(name="x", dtype="FP32", shape=(1, 3))
    fixed = ServedModel(model.name, model.format, model.versions, Signature(inputs=(tensor,), outputs=(tensor,), opset=0))
    assert not session(laid(fixed)).HasField("batching_parameters")
    assert not session(laid(model, {"max": 1})).HasField("batching_parameters")
    assert session(laid(model)).HasField("batching_parameters")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (NAMES[1:], r"version 1 \(.*\): is no SavedModel: it holds no saved_model.pb"),
        ((*NAMES[:3], "variables/variables.data-00000-of-00002"), "variables.data-00001-of-00002"),
        ((*NAMES[:2], NAMES[3]), "variables.index"),
        (NAMES[:3], r"\(variables.data-\*\): lacks files"),
    ],
)
def test_a_saved_model_that_is_not_whole_is_refused(tmp_path, names, words):
    model = ServedModel("flowers", "tensorflow", {1: saved_model(tmp_path, names)})
    with pytest.raises(LayoutError, match=words):
        laid(model)


def test_a_saved_model_without_variables_is_whole(tmp_path):
    laid(ServedModel("flowers", "tensorflow", {1: saved_model(tmp_path, NAMES[:1])}))


def test_a_field_that_the_server_does_not_know_is_refused():
    with pytest.raises(LayoutError, match="prometheus_configs"):
        parsed("MonitoringConfig", "prometheus_configs { enable: true }")
    with pytest.raises(LayoutError, match="batch_size"):
        parsed("BatchingParameters", "batch_size { value: 3 }")
