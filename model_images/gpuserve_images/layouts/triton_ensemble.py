"""Several models in one Triton repository, and an ensemble over them."""

from collections.abc import Iterable, Mapping
from typing import Any

from gpuserve_images.layouts.served import Files, Layout, LayoutError, ServedModel, Wishes
from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.layouts.triton import ROOT, repository
from gpuserve_images.layouts.triton_protobuf import data_type, dims, protobuf, written
from gpuserve_images.layouts.wiring import require_served_alike, wired_signature
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.records import StageRecord

VERSION = "1"
"""The one version of an ensemble: its models have versions of their own."""


def ensemble(spec: EnsembleSpec, models: Mapping[str, tuple[ServedModel, Wishes]]) -> Layout:
    """Return a repository with the models of an ensemble, and the ensemble itself.

    Args:
        spec: The ensemble.
        models: Its models by name, and how each is to be served.

    Raises:
        LayoutError: When the steps do not fit together, or a model is named as the ensemble is.
    """
    name = spec.name
    if name in models:
        raise LayoutError("layout.ensemble.name", "is the name of one of its own models too", "Choose another.", value=name)
    signatures = {known: model.known_signature() for known, (model, _) in models.items()}
    text = ensemble_config(spec, signatures, {known: wishes.batch.max for known, (_, wishes) in models.items()})
    files: Files = {}
    records: dict[str, StageRecord] = {}
    for member, (model, wishes) in sorted(models.items()):
        member_files, records[member] = repository(model, wishes)
        files |= member_files
    path = f"{ROOT}/{name}/config.pbtxt"
    # Triton wants a folder per version, and images hold no empty ones by themselves.
    files |= {path: text.encode(), f"{ROOT}/{name}/{VERSION}/.ensemble": b""}
    merged = StageRecord(
        stage="layout",
        inputs={f"{member}/{role}": sha for member, record in records.items() for role, sha in record.inputs.items()},
        options={"server": "triton", path: text} | _merged(record.options for record in records.values()),
        outputs=_merged(record.outputs for record in records.values()),
        notes=tuple(f"{member}: {note}" for member, record in records.items() for note in record.notes),
    )
    return files, merged


def ensemble_config(spec: EnsembleSpec, models: Mapping[str, Signature], largest: Mapping[str, int]) -> str:
    """Return the text of an ensemble's `config.pbtxt`.

    Args:
        spec: The ensemble.
        models: Signatures of its models by name.
        largest: Largest batch of each model.

    Raises:
        LayoutError: When the steps do not fit together.
    """
    signature = wired_signature(spec, models)
    require_served_alike(spec, models)
    used = {step.model for step in spec.steps}
    batched = all(models[model].batched for model in used)
    # What batched models make has an axis of its own behind that of the batch, beside models without batches too.
    labels = {name for step in spec.steps if models[step.model].batched for name in step.outputs.values()}
    config = protobuf().ModelConfig(name=spec.name, platform="ensemble")
    config.max_batch_size = min(largest[model] for model in used) if batched else 0
    for places, tensors in ((config.input, signature.inputs), (config.output, signature.outputs)):
        for tensor in tensors:
            # Never a reshape: Triton compares these with the `dims` of its models, not with their reshapes.
            shape = dims(tensor, batched=batched)
            if not batched and len(tensor.shape) == 1 and tensor.name in labels:
                shape = (*shape, 1)
            places.add(name=tensor.name, data_type=data_type(tensor.dtype), dims=shape)
    for step in spec.steps:
        # -1: the newest version that the server offers.
        entry = config.ensemble_scheduling.step.add(model_name=step.model, model_version=-1)
        entry.input_map.update(step.inputs)
        entry.output_map.update(step.outputs)
    return written(config)


def _merged(mappings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for mapping in mappings for key, value in mapping.items()}
