"""Stage 6: a Triton model repository; `config.pbtxt` is made from the model's own signature, by Triton's own protobuf."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuserve_images.errors import ImageError
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec
from gpuserve_images.records import StageRecord, sha256_file
from gpuserve_images.target import Target

ROOT = "/models"
"""Folder of the model repository inside an image."""

VERSION = "1"
"""The one version in an image: versions of a service are images of their own, split by the gateway."""

BACKENDS: Mapping[str, tuple[dict[str, str], str]] = {
    # The CPU base image answers to the same backend name as NVIDIA's image, so one repository serves on both.
    "onnxruntime": ({"backend": "onnxruntime"}, "model.onnx"),
    "tensorrt": ({"platform": "tensorrt_plan"}, "model.plan"),
}
"""Engine -> (fields of `config.pbtxt` that choose the backend, name of the model file)."""


class LayoutError(ImageError):
    """Triton would not understand the repository."""


def config_pbtxt(name: str, signature: Signature, *, engine: str, batch: BatchSpec, target: Target) -> str:
    """Return the text of `config.pbtxt`.

    A model whose first axis is free everywhere gets dynamic batching; others are served one request at a time. Warm-up requests of
    zeros run before Triton reports ready, so that no user's request pays for the first run.

    Args:
        name: Name of the model.
        signature: Its inputs and outputs.
        engine: `onnxruntime` or `tensorrt`.
        batch: How requests are joined.
        target: Where it will run.
    """
    from google.protobuf import text_format

    config_class, model_config = _protobuf()
    fields, file = BACKENDS[engine]
    config = config_class(name=name, default_model_filename=file, **fields)
    config.max_batch_size = batch.max if signature.batched else 0
    for tensor in signature.inputs:
        config.input.add(name=tensor.name, data_type=_data_type(model_config, tensor), dims=_dims(tensor, signature))
    for tensor in signature.outputs:
        config.output.add(name=tensor.name, data_type=_data_type(model_config, tensor), dims=_dims(tensor, signature))
    kind = model_config.ModelInstanceGroup.KIND_GPU if target.kind == "gpu" else model_config.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(count=1, kind=kind)
    if signature.batched:
        config.dynamic_batching.preferred_batch_size.extend(batch.sizes)
        config.dynamic_batching.max_queue_delay_microseconds = round(batch.queue_delay.seconds * 1e6)
    _add_warmup(config, signature, batch, model_config)
    text = text_format.MessageToString(config)
    parse_config(text)
    return text


def parse_config(text: str) -> Any:
    """Parse a `config.pbtxt` as Triton does.

    Raises:
        LayoutError: When Triton's protobuf does not accept it.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, _protobuf()[0]())
    except text_format.ParseError as error:
        raise LayoutError("config.pbtxt", f"is not accepted: {error}", "Correct the named line.") from error


def lay_out(  # noqa: PLR0913 - a stage is a function of its files and its options
    name: str, model: Path, signature: Signature, *, engine: str, batch: BatchSpec, target: Target
) -> tuple[dict[str, Path | bytes], StageRecord]:
    """Return the repository as image paths with their content, and the record.

    Args:
        name: Name of the model.
        model: The model file.
        signature: Its inputs and outputs.
        engine: `onnxruntime` or `tensorrt`.
        batch: How requests are joined.
        target: Where it will run.
    """
    text = config_pbtxt(name, signature, engine=engine, batch=batch, target=target)
    folder = f"{ROOT}/{name}"
    file = f"{folder}/{VERSION}/{BACKENDS[engine][1]}"
    record = StageRecord(
        stage="layout",
        inputs={"model": sha256_file(model)},
        options={"server": target.server, "engine": engine, "config.pbtxt": text},
        outputs={file: sha256_file(model)},
    )
    return {f"{folder}/config.pbtxt": text.encode(), file: model}, record


def _protobuf() -> tuple[Any, Any]:
    from tritonclient.grpc import model_config_pb2

    module: Any = model_config_pb2
    return module.ModelConfig, module


def _data_type(model_config: Any, tensor: TensorSpec) -> int:
    return model_config.DataType.Value("TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}")


def _dims(tensor: TensorSpec, signature: Signature) -> tuple[int, ...]:
    """Return the dimensions as Triton wants them: without the batch axis, and never none at all."""
    return (tensor.shape[1:] if signature.batched else tensor.shape) or (1,)


def _add_warmup(config: Any, signature: Signature, batch: BatchSpec, model_config: Any) -> None:
    dims = {tensor.name: _dims(tensor, signature) for tensor in signature.inputs}
    if any(DYNAMIC in shape for shape in dims.values()):
        return
    for size in (1, batch.sizes[-1]) if signature.batched else (0,):
        sample = config.model_warmup.add(name=f"zeros-{size}" if size else "zeros", batch_size=size, count=1)
        for tensor in signature.inputs:
            entry = sample.inputs[tensor.name]
            entry.data_type = _data_type(model_config, tensor)
            entry.dims.extend(dims[tensor.name])
            entry.zero_data = True
