"""Requests that Triton runs before it reports ready."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.layouts.served import LayoutError, Wishes
from gpuserve_images.layouts.triton_protobuf import data_type, dims
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature
from gpuserve_images.samples.codec import Tensors

MOST_SAMPLES = 4
"""Real requests to warm up with: enough for the shapes that usually differ, few enough that a start stays quick."""


def add_warmup(config: Any, signature: Signature, wishes: Wishes) -> dict[str, bytes]:
    """Add the warm-up that was asked for to a config, and return the files of its folder `warmup`.

    Zeros suit models of fixed shape; others get none then, because no size would be the right one to try.

    Raises:
        LayoutError: When samples are wanted and there are none.
    """
    match wishes.options.warmup:
        case "zeros":
            _add_zeros(config, signature, wishes)
        case "samples":
            return _add_samples(config, signature, wishes)
        case "none":
            pass
    return {}


def _sizes(signature: Signature, wishes: Wishes) -> tuple[int, ...]:
    """Return the batch sizes to try: one request alone, and the largest batch worth waiting for."""
    return tuple(sorted({1, wishes.batch.sizes[-1]})) if signature.batched else (1,)


def _add_zeros(config: Any, signature: Signature, wishes: Wishes) -> None:
    shapes = {tensor.name: dims(tensor, batched=signature.batched) for tensor in signature.inputs}
    if any(DYNAMIC in shape for shape in shapes.values()):
        return
    for size in _sizes(signature, wishes):
        request = config.model_warmup.add(name=f"zeros-{size}", batch_size=size, count=1)
        for tensor in signature.inputs:
            entry = request.inputs[tensor.name]
            entry.data_type = data_type(tensor.dtype)
            entry.dims.extend(shapes[tensor.name])
            entry.zero_data = True


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
