"""What a build gives back, and its summary in the annotations of the image."""

import json
from collections.abc import Mapping
from typing import Self

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.pipeline.stage import Origin
from gpuserve_images.records import StageRecord
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.differences import Parity

PREFIX = "io.gpuserve."
"""Start of the names of gpuserve's own annotations."""


class Summary(Spec):
    """The part of a report that is the same for the same inputs, hence fit for the image itself.

    Attributes:
        model: Name of the model.
        build: Name of the build.
        key: Content key.
        signature: The model's inputs and outputs; None for a model that its server reads by itself.
        quantisation: `static`, `dynamic` or `none`.
        parity: Differences from the source model, for engines those of the ONNX file that they were compiled from; None where the
            source is served as it is.
        architectures: GPUs that engines were built for.
    """

    model: str
    build: str
    key: str
    signature: Signature | None
    quantisation: str = "none"
    parity: Parity | None = None
    architectures: tuple[str, ...] = ()

    def annotations(self) -> dict[str, str]:
        """Return the summary as annotations: text by name, structures as JSON."""
        data = self.model_dump(mode="json")
        return {PREFIX + name: value if isinstance(value, str) else _json(value) for name, value in data.items()}

    @classmethod
    def from_annotations(cls, annotations: Mapping[str, str]) -> Self | None:
        """Read a summary back; None when the image is none of ours, or an older one."""
        found = {name: annotations.get(PREFIX + name) for name in cls.model_fields}
        if any(value is None for value in found.values()):
            return None
        texts = {"model", "build", "key", "quantisation"}
        return cls.model_validate({name: value if name in texts else json.loads(str(value)) for name, value in found.items()})


class StageRun(Spec):
    """What became of one stage of a build.

    Attributes:
        stage: Its name.
        key: Its key.
        origin: `made` when it ran, `local` or `registry` when its result was there.
        seconds: How long it ran, now or when it was made.
    """

    stage: str
    key: str
    origin: Origin
    seconds: float


class BuildReport(Spec):
    """One build: where it is, what it is, and what was done for it.

    Attributes:
        reference: Address by digest.
        tag: Address by content tag.
        digest: Digest of the manifest.
        summary: What the image says about itself.
        built: Whether stages ran; false when the registry or the local cache had the result.
        pushed: Whether anything was sent to the registry.
        uploaded_bytes: Bytes sent.
        seconds: Time of the whole call.
        records: What each stage did; empty when the registry had the image.
        stages: What became of each stage; empty when the registry had the image.
        notes: What did not work, and did not have to.
        capacity: Measured speed, when stages ran.
    """

    reference: str
    tag: str
    digest: str
    summary: Summary
    built: bool
    pushed: bool
    uploaded_bytes: int = 0
    seconds: float = 0.0
    records: tuple[StageRecord, ...] = ()
    stages: tuple[StageRun, ...] = ()
    notes: tuple[str, ...] = ()
    capacity: Capacity | None = None


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
