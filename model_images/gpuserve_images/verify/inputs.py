"""What a build is judged on: encoded samples, or generated requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.samples.codec import Tensors, encode_all, load_codec
from gpuserve_images.samples.picking import sample_set
from gpuserve_images.spec import ModelSpec
from gpuserve_images.verify.generated import generate, table_sizes


@dataclass(frozen=True)
class Requests:
    """Requests that a model can take.

    Attributes:
        names: What each is called in a report: its file, or its number.
        tensors: Their inputs, each with a batch of 1.
    """

    names: tuple[str, ...]
    tensors: Sequence[Tensors]


def verification_inputs(model: ModelSpec, build: str, folder: Path, signature: Signature, onnx: Path | None) -> Requests:
    """Return the requests that parity and speed are measured on.

    Args:
        model: The model.
        build: Name of the build.
        folder: Folder of the model's YAML file.
        signature: The model's inputs.
        onnx: The model as an ONNX file, whose tables bound generated integers; None where there is none.

    Raises:
        SourceError: When the samples are missing or do not fit, or inputs cannot be generated, or are too large.
    """
    signature = model.batch.seen(signature)
    spec = model.verify.generated
    if spec is not None:
        batch = max(model.verify_batches()) if signature.batched else 1
        tensors = generate(signature, spec, table_sizes(onnx) if onnx else None, batch)
        return Requests(tuple(f"generated input {number}" for number in range(len(tensors))), tensors)
    files = sample_set(model, build, folder).verify
    samples = encode_all(load_codec(model.io, folder), files, signature, "verify.inputs")
    return Requests(tuple(file.name for file in samples.files), samples.tensors)
