"""TensorFlow Serving: SavedModels below `/models/<name>/<version>`, and its three configuration files.

The server is started with `--model_config_file`, `--monitoring_config_file` and `--platform_config_file`. With the last one it does not
hear `--enable_batching` and `--batching_parameters_file`, so batching is said in there. Source: https://github.com/tensorflow/serving,
`tensorflow_serving/model_servers/server.cc` and `docs/serving_config.md`.
"""

import re
from typing import Any

from gpuserve_images.layouts.features import batch_microseconds
from gpuserve_images.layouts.served import Files, Layout, LayoutError, ModelFiles, ServedModel, Wishes, layout_record
from gpuserve_images.layouts.tfserving_protobuf import message, written

ROOT = "/models"
"""Folder of the models and of the configuration in the image."""

METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where the REST port answers with metrics; the path of TensorFlow Serving's own documentation."""

PLATFORM = "tensorflow"
FORMATS = ("tensorflow",)
"""Formats that TensorFlow Serving serves."""

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
SHARD = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")


def repository(model: ServedModel, wishes: Wishes) -> Layout:
    """Return SavedModels and configuration.

    Args:
        model: The model, in one or more versions.
        wishes: How it is to be served.

    Raises:
        LayoutError: When a version is no whole SavedModel, or one that is to be offered is missing.
    """
    for number, version in model.versions.items():
        _require_saved_model(model.name, number, version)
    files: Files = {
        f"{ROOT}/models.config": models_config(model, wishes).encode(),
        f"{ROOT}/monitoring.config": monitoring_config().encode(),
        f"{ROOT}/platform.config": platform_config(model, wishes).encode(),
    }
    for number, version in model.versions.items():
        files |= {f"{ROOT}/{model.name}/{number}/{name}": path for name, path in version.files.items()}
    return files, layout_record("tfserving", model, files)


def models_config(model: ServedModel, wishes: Wishes) -> str:
    """Return `models.config`: which model, from where, in which versions."""
    policy = wishes.options.versions
    config = message("ModelServerConfig")()
    entry = config.model_config_list.config.add(name=model.name, base_path=f"{ROOT}/{model.name}", model_platform=PLATFORM)
    if policy.all:
        entry.model_version_policy.all.SetInParent()
    elif policy.only:
        entry.model_version_policy.specific.versions.extend(sorted({number for number in policy.only if model.version(number)}))
    elif policy.latest != 1:
        entry.model_version_policy.latest.num_versions = policy.latest
    return written(config)


def monitoring_config() -> str:
    """Return `monitoring.config`: metrics for Prometheus, which are off by default."""
    config = message("MonitoringConfig")()
    config.prometheus_config.enable = True
    config.prometheus_config.path = METRICS_PATH
    return written(config)


def platform_config(model: ServedModel, wishes: Wishes) -> str:
    """Return `platform.config`: sessions and batches of TensorFlow models."""
    adapter = message("SavedModelBundleSourceAdapterConfig")()
    bundle = adapter.legacy_config
    # SavedModels may carry their own warm-up requests in assets.extra; they are run before the model is offered.
    bundle.enable_model_warmup = True
    threads = wishes.options.threads
    session = bundle.session_config
    if threads.intra_op is not None:
        session.intra_op_parallelism_threads = threads.intra_op
    if threads.inter_op is not None:
        session.inter_op_parallelism_threads = threads.inter_op
    if wishes.target.kind == "gpu":
        # TensorFlow otherwise takes the whole GPU at once, also when it shares it.
        session.gpu_options.allow_growth = True
    if wishes.batch.joins and (model.signature is None or model.signature.batched):
        _add_batching(bundle.batching_parameters, wishes)
    config = message("PlatformConfigMap")()
    config.platform_configs[PLATFORM].source_adapter_config.Pack(adapter)
    return written(config)


def _add_batching(parameters: Any, wishes: Wishes) -> None:
    batch = wishes.batch
    parameters.max_batch_size.value = batch.max
    parameters.batch_timeout_micros.value = batch_microseconds(wishes)
    if batch.preferred:
        # Batches are padded to one of these, and the largest has to be the last.
        parameters.allowed_batch_sizes.extend(sorted({*batch.sizes, batch.max}))


def _require_saved_model(name: str, number: int, version: ModelFiles) -> None:
    where = f"model {name}, version {number}"
    if not any(graph in version.files for graph in GRAPHS):
        reason = f"is no SavedModel: it holds no {GRAPHS[0]}"
        fix = "Name the folder that tf.saved_model.save or model.export wrote."
        raise LayoutError(where, reason, fix, value=str(sorted(version.files)[:5]))
    shards = {match[0]: match for path in version.files if (match := SHARD.fullmatch(path))}
    for match in shards.values():
        total = int(match[2])
        expected = [f"variables/variables.data-{index:05d}-of-{total:05d}" for index in range(total)]
        missing = [path for path in ("variables/variables.index", *expected) if path not in version.files]
        if missing:
            raise LayoutError(where, "lacks files of its variables", "Copy the whole folder again.", value=str(missing))
    if any(path.startswith("variables/") for path in version.files) and not shards:
        raise LayoutError(where, "lacks files of its variables", "Copy the whole folder again.", value="variables.data-*")
