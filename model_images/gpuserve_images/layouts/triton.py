"""A Triton model repository; `config.pbtxt` is made from the model's own signature, by Triton's own protobuf.

Fields: https://github.com/triton-inference-server/common, `protobuf/model_config.proto`; parameters of ONNX Runtime and of TensorRT
inside it: https://github.com/triton-inference-server/onnxruntime_backend, README.
"""

from collections.abc import Mapping
from typing import Any

from gpuserve_images.layouts.served import Files, Layout, LayoutError, ServedModel, Wishes, layout_record
from gpuserve_images.layouts.spec import TensorRtExecution
from gpuserve_images.layouts.triton_protobuf import data_type, dims, protobuf, written
from gpuserve_images.layouts.triton_warmup import add_warmup
from gpuserve_images.onnx_model.signature import Signature

ROOT = "/models"
"""Folder of the model repository inside an image."""

BACKENDS: Mapping[str, tuple[dict[str, str], str]] = {
    # The CPU base image answers to the same backend name as NVIDIA's image, so one repository serves on both.
    "onnx": ({"backend": "onnxruntime"}, "model.onnx"),
    "tensorrt": ({"platform": "tensorrt_plan"}, "model.plan"),
}
"""Format -> (fields of `config.pbtxt` that choose the backend, name of the model file)."""

FORMATS = tuple(BACKENDS)
"""Formats that Triton serves."""


def repository(model: ServedModel, wishes: Wishes) -> Layout:
    """Return a repository with one model.

    A model whose first axis is free everywhere, and is that of the batch, gets dynamic batching; others are served one request at a time.
    Warm-up requests run before Triton reports ready, so that no user's request pays for the first run.

    Args:
        model: The model, in one or more versions.
        wishes: How it is to be served.

    Raises:
        LayoutError: When the two contradict each other.
    """
    files, notes = _model_folder(model, wishes)
    return files, layout_record("triton", model, files).model_copy(update={"notes": notes})


def _model_folder(model: ServedModel, wishes: Wishes) -> tuple[Files, tuple[str, ...]]:
    """Return the files of one model's folder, and what was left out of it."""
    signature = model.known_signature()
    folder = f"{ROOT}/{model.name}"
    files: Files = {}
    served = BACKENDS[model.format][1]
    for number, version in model.versions.items():
        if served != version.entry and served in version.files:
            reason = f"keeps weights in a file that is called as Triton calls the model's own, which is {version.entry} here"
            fix = f"Save the model as {served}, with its weights under another name."
            raise LayoutError(f"model {model.name}", reason, fix, value=served)
        for name, path in version.files.items():
            # External data is found by the name that the model file gives it, so only the model file itself is renamed.
            files[f"{folder}/{number}/{served if name == version.entry else name}"] = path
    config = _config(model, signature, wishes)
    warmup, notes = add_warmup(config, model, signature, wishes)
    files |= {f"{folder}/warmup/{name}": data for name, data in warmup.items()}
    files[f"{folder}/config.pbtxt"] = written(config).encode()
    return files, notes


def _config(model: ServedModel, signature: Signature, wishes: Wishes) -> Any:
    fields, file = BACKENDS[model.format]
    batch, options = wishes.batch, wishes.options
    config = protobuf().ModelConfig(name=model.name, default_model_filename=file, **fields)
    config.max_batch_size = batch.max if signature.batched else 0
    for places, tensors in ((config.input, signature.inputs), (config.output, signature.outputs)):
        for tensor in tensors:
            shape = dims(tensor, batched=signature.batched)
            entry = places.add(name=tensor.name, data_type=data_type(tensor.dtype), dims=shape)
            if signature.batched and not tensor.shape[1:]:
                # `dims` may not be empty, and the backend compares them with the model's own rank: what it sees is the empty shape.
                entry.reshape.SetInParent()
    _add_instances(config, wishes)
    if signature.batched:
        config.dynamic_batching.preferred_batch_size.extend(batch.sizes)
        config.dynamic_batching.max_queue_delay_microseconds = round(batch.queue_delay.seconds * 1e6)
    _add_versions(config, model, wishes)
    if options.response_cache:
        config.response_cache.enable = True
    for name, threads in (
        ("intra_op_thread_count", options.threads.intra_op),
        ("inter_op_thread_count", options.threads.inter_op),
    ):
        if threads is not None:
            _require_onnx(model, "layout.threads")
            config.parameters[name].string_value = str(threads)
    if options.tensorrt is not None:
        _require_onnx(model, "layout.tensorrt")
        _add_tensorrt(config, options.tensorrt, wishes)
    return config


def _require_onnx(model: ServedModel, field: str) -> None:
    if model.format != "onnx":
        raise LayoutError(field, f"is about ONNX Runtime, and the model is {model.format}", f"Remove `{field}`.")


def _add_instances(config: Any, wishes: Wishes) -> None:
    kinds = protobuf().ModelInstanceGroup
    for index, group in enumerate(wishes.options.instances):
        kind = group.kind or ("gpu" if group.gpus else wishes.target.kind)
        if kind == "gpu" and wishes.target.kind != "gpu":
            field = f"layout.instances[{index}]"
            raise LayoutError(field, "asks for GPUs in an image for CPUs", "Remove `kind` and `gpus`, or use a pool with GPUs.")
        config.instance_group.add(count=group.count, kind=kinds.KIND_GPU if kind == "gpu" else kinds.KIND_CPU, gpus=group.gpus)


def _add_versions(config: Any, model: ServedModel, wishes: Wishes) -> None:
    """Write the policy where it is not Triton's own, the newest version alone."""
    policy = wishes.options.versions
    for number in policy.only:
        model.version(number)
    if policy.all:
        config.version_policy.all.SetInParent()
    elif policy.only:
        config.version_policy.specific.versions.extend(sorted(set(policy.only)))
    elif policy.latest != 1:
        config.version_policy.latest.num_versions = policy.latest


def _add_tensorrt(config: Any, wanted: TensorRtExecution, wishes: Wishes) -> None:
    if wishes.target.kind != "gpu":
        fix = "Remove `layout.tensorrt`, or use a pool with GPUs."
        raise LayoutError("layout.tensorrt", "needs a GPU, and this image is for CPUs", fix)
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    accelerator.parameters["precision_mode"] = wanted.precision.upper()
    accelerator.parameters["max_workspace_size_bytes"] = str(round(wanted.workspace.amount))
