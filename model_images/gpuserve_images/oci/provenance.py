"""Provenance: how an image came about, as an in-toto statement with SLSA's predicate (slsa.dev/spec/v1.0/provenance)."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from gpuserve_images.oci.config import Json, encode
from gpuserve_images.oci.reference import Reference
from gpuserve_images.records import StageRecord, source_digests

STATEMENT = "application/vnd.in-toto+json"
"""Media type of the document, and type of the artifact."""

PREDICATE = "https://slsa.dev/provenance/v1"
"""Type of what the statement says."""

PREDICATE_ANNOTATION = "in-toto.io/predicate-type"
"""Annotation that tells the kind of statement without reading it, as BuildKit writes it."""

_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_BUILD_TYPE = "urn:gpuserve:model-image:v1"


def provenance(image: str, parameters: Mapping[str, Any], records: Sequence[StageRecord], *, key: str, base: str = "") -> bytes:
    """Return the statement as JSON; equal arguments give equal bytes, so no time is in it.

    Args:
        image: The image, by digest.
        parameters: What was asked for: model, build and target as plain data.
        records: What the stages did.
        key: Content key of the build.
        base: Base image by digest, if there is one.
    """
    place = Reference.parse(image)
    sources: list[Json] = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in source_digests(records)]
    definition: Json = {
        "buildType": _BUILD_TYPE,
        "externalParameters": dict(parameters),
        "internalParameters": {"stages": [_stage(record) for record in records]},
        "resolvedDependencies": [*sources, *_base(base)],
    }
    details: Json = {
        "builder": {"id": "urn:gpuserve:builder", "version": {"gpuserve": version("gpuserve")}},
        "metadata": {"invocationId": key},
    }
    subject = {"name": f"{place.registry}/{place.repository}", "digest": {"sha256": str(place.digest).removeprefix("sha256:")}}
    return encode(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [subject],
            "predicateType": PREDICATE,
            "predicate": {"buildDefinition": definition, "runDetails": details},
        }
    )


def _stage(record: StageRecord) -> Json:
    # Not the notes: they hold measurements, which differ from run to run.
    data = record.model_dump(mode="json")
    return {name: data[name] for name in ("stage", "inputs", "options", "outputs", "tools")}


def _base(base: str) -> list[Json]:
    if not base:
        return []
    place = Reference.parse(base)
    entry: Json = {"uri": f"docker://{base}"}
    return [{**entry, "digest": {"sha256": place.digest.removeprefix("sha256:")}} if place.digest else entry]
