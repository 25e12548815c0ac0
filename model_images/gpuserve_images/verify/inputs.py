"""What a build is judged on: encoded samples, or generated requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.samples.codec import Tensors, encode_all, load_codec
from gpuserve_images.samples.picking import sample_set
from gpuserve_images.spec import ModelSpec
from gpuserve_images.verify.generated import generate
from gpuserve_images.verify.known import NOTHING, Known
from gpuserve_images.verify.sizes import require_room
from gpuserve_images.verify.spec import GenerateSpec


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
        onnx: The model as an ONNX file, whose tables bound generated integers and whose vocabularies generated texts are made of; None
            where there is none.

    Raises:
        SourceError: When the samples are missing or do not fit, or inputs cannot be generated, or are too large.
    """
    signature = model.batch.seen(signature)
    spec = model.verify.generated
    batch = max(model.verify_batches()) if signature.batched else 1
    if spec is not None:
        return generated_inputs(signature, spec, batch, onnx)
    files = sample_set(model, build, folder).verify
    samples = encode_all(load_codec(model.io, folder), files, signature, "verify.inputs")
    require_room(samples.tensors, batch)
    return Requests(samples.names, samples.tensors)


def generated_inputs(signature: Signature, spec: GenerateSpec, batch: int, onnx: Path | None) -> Requests:
    """Return requests that are made up, of what an ONNX file knows: indices of its tables, words of its vocabularies, categories.

    Args:
        signature: The model's inputs.
        spec: Count, seed, ranges and shapes.
        batch: Most requests that will be joined.
        onnx: The model as an ONNX file; None where there is none.

    Raises:
        SourceError: When inputs cannot be generated, or are too large.
    """
    tensors = generate(signature, spec, Known.of(onnx) if onnx else NOTHING, batch)
    return Requests(tuple(f"generated input {number}" for number in range(len(tensors))), tensors)
