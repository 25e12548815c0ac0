"""What made-up requests and their answers need in memory, and where that is refused."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.signature import DATA_TYPES, DYNAMIC, Signature, TensorSpec
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.spec import GenerateSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELD = "verify.generate"

MOST_REQUEST_BYTES = 2**31
"""Of one request: the largest message that Protocol Buffers carry (https://protobuf.dev/programming-guides/proto-limits/), so no server
could be asked for more over gRPC."""

MOST_BYTES = 2**32
"""Of one batch, and of the answers that are kept to be compared: all the memory that a builder's pod has by default (4 Gi), which must
hold the model's own tensors besides."""

MOST_ITEM_BYTES = 8
"""Of a number of a type that is not known here."""

TEXT_BYTES = 64
"""Of a text: a short Python string with the pointer to it, rounded up."""


def require_memory(
    signature: Signature, shapes: Sequence[tuple[TensorSpec, tuple[int, ...]]], spec: GenerateSpec, batch: int
) -> None:
    """Refuse requests that are too large to make, to join, or to keep the answers of.

    Args:
        signature: The model; sizes of outputs that it leaves open count as 1.
        shapes: Each input with the shape of one request.
        spec: How many requests.
        batch: Most requests that are joined.

    Raises:
        SourceError: Naming the largest tensor, its size, and what to change.
    """
    sizes = {tensor.name: _bytes(tensor, shape) for tensor, shape in shapes}
    request = sum(sizes.values())
    if request > MOST_REQUEST_BYTES:
        tensor, shape = max(shapes, key=lambda pair: sizes[pair[0].name])
        reason = f"makes a request of {_shown(request)}, and {_shown(MOST_REQUEST_BYTES)} is the most that a server can be sent"
        fix = f"Give smaller `{FIELD}.shapes` where dimensions are open, or export the model with smaller ones."
        raise SourceError(f"{FIELD}: input {tensor.name}", reason, fix, value=f"{tensor.dtype} {list(shape)}")
    if request * batch > MOST_BYTES:
        tensor, shape = max(shapes, key=lambda pair: sizes[pair[0].name])
        reason = (
            f"makes a batch of {batch} take {_shown(request * batch)}, and {_shown(MOST_BYTES)} is the most that is made up"
        )
        fix = f"Lower `batch.max`, or name sizes up to {MOST_BYTES // request} in `verify.batches`."
        raise SourceError(f"{FIELD}: input {tensor.name}", reason, fix, value=f"{tensor.dtype} {list(shape)}")
    answers = [_bytes(tensor, tuple(1 if size == DYNAMIC else size for size in tensor.shape)) for tensor in signature.outputs]
    if sum(answers) * spec.count > MOST_BYTES:
        tensor = signature.outputs[answers.index(max(answers))]
        reason = (
            f"makes answers of {_shown(sum(answers) * spec.count)} (output {tensor.name} is {tensor.dtype} {list(tensor.shape)}), "
            f"and {_shown(MOST_BYTES)} is the most that is kept to compare"
        )
        most = MOST_BYTES // sum(answers)
        fix = (
            f"Write {most} or less, or name so few samples in `verify.inputs`."
            if most
            else "Export a model with smaller outputs."
        )
        raise SourceError(f"{FIELD}.count", reason, fix, value=str(spec.count))


def require_room(samples: Sequence[Tensors], batch: int) -> None:
    """Refuse batches of samples that are too large to join.

    Args:
        samples: Requests with a batch of 1.
        batch: Most requests that are joined.

    Raises:
        SourceError: With the sizes, and what to change.
    """
    largest = max((sum(map(_held, sample.values())) for sample in samples), default=0)
    if batch > 1 and largest * batch > MOST_BYTES:
        reason = (
            f"makes a batch of {batch} samples of {largest:,} bytes take {_shown(largest * batch)}, and {_shown(MOST_BYTES)} is the most "
            "that is joined"
        )
        fix = f"Lower `batch.max`, or name sizes up to {max(1, MOST_BYTES // largest)} in `verify.batches`."
        raise SourceError("verify.inputs", reason, fix)


def _held(array: "NDArray[Any]") -> int:
    return array.size * (TEXT_BYTES if array.dtype.hasobject else array.itemsize)


def _bytes(tensor: TensorSpec, shape: tuple[int, ...]) -> int:
    # Not NumPy's product, which overflows without a word.
    return math.prod(shape) * _item_bytes(tensor)


def _item_bytes(tensor: TensorSpec) -> int:
    if tensor.dtype == "BYTES":
        return TEXT_BYTES
    # A server's answers may be of types that NumPy lacks, BF16 for one.
    known = any(tensor.dtype == v2 for v2, _ in DATA_TYPES.values())
    return tensor.numpy_dtype.itemsize if known else MOST_ITEM_BYTES


def _shown(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
