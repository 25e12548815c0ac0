"""Requests that Triton runs before it reports ready."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.errors import shortened
from gpuserve_images.layouts.found import opened
from gpuserve_images.layouts.served import LayoutError, ServedModel, Wishes
from gpuserve_images.layouts.triton_protobuf import data_type, dims
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec
from gpuserve_images.samples.codec import Tensors

MOST_SAMPLES = 4
"""Real requests to warm up with: enough for the shapes that usually differ, few enough that a start stays quick."""


def add_warmup(
    config: Any, model: ServedModel, signature: Signature, wishes: Wishes
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Add the warm-up that was asked for to a config, and return the files of its folder `warmup`, and what was left out and why.

    Zeros suit models of fixed shape; others get none by themselves, because no size would be the right one to try. A model that fails at them would
    never become ready: Triton loads none whose warm-up fails.

    Raises:
        LayoutError: When samples are wanted and there are none, or zeros are and the model has no fixed shape or fails at them.
    """
    match wishes.options.warmup:
        case "samples":
            return _add_samples(config, signature, wishes), ()
        case "none":
            return {}, ()
        case written:
            return {}, _add_zeros(config, model, signature, wishes, written=written is not None)


def _sizes(signature: Signature, wishes: Wishes) -> tuple[int, ...]:
    """Return the batch sizes to try: one request alone, and the largest batch worth waiting for."""
    return tuple(sorted({1, wishes.batch.sizes[-1]})) if signature.batched else (1,)


def _add_zeros(config: Any, model: ServedModel, signature: Signature, wishes: Wishes, *, written: bool) -> tuple[str, ...]:
    """Add requests of zeros, and return why there are none where they would fail."""
    shapes = {tensor.name: dims(tensor, batched=signature.batched) for tensor in signature.inputs}
    free = next((name for name, shape in shapes.items() if DYNAMIC in shape), None)
    if free is not None and written:
        reason = f"needs one shape to try, and input {free} of {model.name} has any, {list(shapes[free])}"
        raise LayoutError("layout.warmup", reason, "Write `samples` or `none`.", value="zeros")
    if free is not None:
        return ()
    texts = [tensor.name for tensor in signature.inputs if tensor.dtype == "BYTES"]
    if texts and not written:
        return (f"no warm-up: input {texts[0]} takes text, and no text is known to be one; `layout.warmup: samples` has some",)
    refusal = _refused_zeros(model, signature, wishes)
    if refusal and written:
        raise LayoutError("layout.warmup", f"fails, {refusal}", "Write `samples` or `none`.", value="zeros")
    if refusal:
        return (f"no warm-up: {refusal}",)
    for size in _sizes(signature, wishes):
        request = config.model_warmup.add(name=f"zeros-{size}", batch_size=size, count=1)
        for tensor in signature.inputs:
            entry = request.inputs[tensor.name]
            entry.data_type = data_type(tensor.dtype)
            entry.dims.extend(shapes[tensor.name])
            entry.zero_data = True
    return ()


def _refused_zeros(model: ServedModel, signature: Signature, wishes: Wishes) -> str:
    """Return what ONNX Runtime says to zeros in a version that is offered; nothing where it answers, or cannot load the model here."""
    for number in wishes.options.versions.offered(model.versions) if model.format == "onnx" else ():
        session = opened(model.version(number).path)
        if session is None:
            continue
        for size in _sizes(signature, wishes):
            try:
                session.run(None, {tensor.name: _zeros(tensor, size, batched=signature.batched) for tensor in signature.inputs})
            except Exception as error:  # noqa: BLE001 - its errors have no common class
                return f"version {number} of {model.name} does not answer zeros at batch size {size}: {shortened(error)}"
    return ""


def _zeros(tensor: TensorSpec, size: int, *, batched: bool) -> NDArray[Any]:
    shape = (size, *tensor.shape[1:]) if batched else tensor.shape
    return np.full(shape, "", dtype=np.object_) if tensor.dtype == "BYTES" else np.zeros(shape, tensor.numpy_dtype)


def _add_samples(config: Any, signature: Signature, wishes: Wishes) -> dict[str, bytes]:
    if not wishes.samples:
        raise LayoutError("layout.warmup", "wants samples, and the model names none", "Add `verify.inputs`, or write `zeros`.")
    files: dict[str, bytes] = {}
    for index, sample in enumerate(wishes.samples[:MOST_SAMPLES]):
        for size in _sizes(signature, wishes) if index == 0 else (1,):
            _add_sample(config, signature, sample, files, index, size)
    return files


def _add_sample(  # noqa: PLR0913, PLR0917 - one request, and where it goes
    config: Any, signature: Signature, sample: Tensors, files: dict[str, bytes], index: int, size: int
) -> None:
    request = config.model_warmup.add(name=f"sample-{index}-{size}", batch_size=size, count=1)
    for position, tensor in enumerate(signature.inputs):
        array = sample[tensor.name]
        name = f"{index}-{position}.raw"
        files[name] = raw(array)
        entry = request.inputs[tensor.name]
        entry.data_type = data_type(tensor.dtype)
        # Triton repeats the one request to fill the batch.
        entry.dims.extend((array.shape[1:] if signature.batched else array.shape) or (1,))
        entry.input_data_file = name


def raw(array: NDArray[Any]) -> bytes:
    """Return a tensor as the protocol's raw bytes: row-major, little-endian; text with its length of four bytes in front."""
    if array.dtype != np.object_:
        return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
