"""What stages leave for each other, besides the model file."""

from pathlib import Path

from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.pipeline.stage import Done
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.differences import Parity
from gpuserve_images.verify.losses import Losses

SIGNATURE = "signature.json"
PARITY = "parity.json"
CONSTANT = "constant.json"
CAPACITY = "capacity.json"
LOSSES = "losses.json"
ENGINE = "model.engine"


def signature_of(done: Done) -> Signature:
    """Return the signature that a stage's model was made from, or its own."""
    kept = done.folder / SIGNATURE
    return Signature.model_validate_json(kept.read_bytes()) if kept.is_file() else read_signature(done.file)


def keep_signature(model: Done, out: Path) -> Signature:
    """Hand the source's signature on, so that later stages need the source no more."""
    signature = signature_of(model)
    (out / SIGNATURE).write_text(signature.model_dump_json(indent=2), encoding="utf-8")
    return signature


def keep_parity(parity: Parity, out: Path) -> None:
    """Write what a stage measured that compares a build with its source."""
    (out / PARITY).write_text(parity.model_dump_json(indent=2), encoding="utf-8")


def parity_of(done: Done) -> Parity:
    """Return what such a stage measured."""
    return Parity.model_validate_json((done.folder / PARITY).read_bytes())


def keep_constant(parity: Parity, out: Path) -> None:
    """Write how far from the source a build is that always answers the same."""
    (out / CONSTANT).write_text(parity.model_dump_json(indent=2), encoding="utf-8")


def constant_of(done: Done) -> Parity | None:
    """Return how far from the source such a build is; None where none could be compared."""
    kept = done.folder / CONSTANT
    return Parity.model_validate_json(kept.read_bytes()) if kept.is_file() else None


def keep_losses(losses: Losses, out: Path) -> None:
    """Write what a stage found out about the layers of a build that missed a bar."""
    (out / LOSSES).write_text(losses.model_dump_json(indent=2), encoding="utf-8")


def losses_of(done: Done) -> Losses:
    """Return what such a stage found out."""
    return Losses.model_validate_json((done.folder / LOSSES).read_bytes())


def keep_capacity(capacity: Capacity, out: Path) -> None:
    """Write what a stage measured that times a build."""
    (out / CAPACITY).write_text(capacity.model_dump_json(indent=2), encoding="utf-8")


def capacity_of(done: Done) -> Capacity:
    """Return what such a stage measured."""
    return Capacity.model_validate_json((done.folder / CAPACITY).read_bytes())
