"""Bills of materials: what is in an image and what made it, as CycloneDX 1.6 (ECMA-424)."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm
from cyclonedx.model import HashType as _HashType
from cyclonedx.model import Property as _Property
from cyclonedx.model.bom import Bom as _Bom
from cyclonedx.model.bom import BomMetaData as _BomMetaData
from cyclonedx.model.component import Component as _Component
from cyclonedx.model.component import ComponentType
from cyclonedx.model.component import Pedigree as _Pedigree
from cyclonedx.model.tool import ToolRepository as _ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from gpuserve_images.oci.reference import Reference
from gpuserve_images.records import StageRecord, source_digests

# The library's decorators hide the signatures of its classes from type checkers.
Bom: Any = _Bom
BomMetaData: Any = _BomMetaData
Component: Any = _Component
HashType: Any = _HashType
Pedigree: Any = _Pedigree
Property: Any = _Property
ToolRepository: Any = _ToolRepository

BILL = "application/vnd.cyclonedx+json"
"""Media type of the document, and type of the artifact."""

# Files that are a model, or part of one; all others are its configuration.
_MODELS = frozenset(
    {
        ".bin",
        ".bst",
        ".data",
        ".engine",
        ".gguf",
        ".joblib",
        ".mar",
        ".onnx",
        ".pb",
        ".pickle",
        ".pkl",
        ".plan",
        ".pt",
        ".pt2",
        ".pth",
        ".safetensors",
        ".ubj",
    }
)
# The same inputs give the same document; the time of a build is in no part of it.
_TIME = datetime.fromtimestamp(0, UTC)


def bill_of_materials(
    image: str, files: Mapping[str, str], records: Sequence[StageRecord], *, base: str = "", licence: str = ""
) -> bytes:
    """Return a bill of materials as JSON; equal arguments give equal bytes.

    Args:
        image: The image, by digest.
        files: Path in the image -> SHA-256, as 64 hex digits.
        records: What the stages of its build did: sources and tools are taken from them.
        base: Base image by digest, if there is one.
        licence: Licence of the model, as SPDX writes it.
    """
    place = Reference.parse(image)
    sources = [_source(name, sha256) for name, sha256 in source_digests(records)]
    described = _image(place)
    components = [_file(path, sha256, sources, licence) for path, sha256 in sorted(files.items())]
    if base:
        components.append(_image(Reference.parse(base)))
    metadata = BomMetaData(component=described, timestamp=_TIME, tools=ToolRepository(components=list(_tools(records))))
    bom = Bom(components=components, metadata=metadata, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, str(place)))
    bom.register_dependency(described, components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2).encode()


def _image(place: Reference) -> Any:
    name = place.repository.rsplit("/", 1)[-1]
    where = f"{place.registry}/{place.repository}"
    purl = PackageURL("oci", None, name, place.digest, {"repository_url": where}) if place.digest else None
    hashes = [_sha256(place.digest.removeprefix("sha256:"))] if place.digest else []
    kind = ComponentType.CONTAINER
    return Component(
        name=where, version=place.digest or place.selector, type=kind, purl=purl, hashes=hashes, bom_ref=str(place)
    )


def _file(path: str, sha256: str, sources: list[Any], licence: str) -> Any:
    model = PurePosixPath(path).suffix.lower() in _MODELS
    return Component(
        name=path,
        type=ComponentType.MACHINE_LEARNING_MODEL if model else ComponentType.FILE,
        hashes=[_sha256(sha256)],
        licenses=[LicenseFactory().make_from_string(licence)] if licence and model else [],
        pedigree=Pedigree(ancestors=sources) if model and sources else None,
        bom_ref=f"file:{path}",
    )


def _source(name: str, sha256: str) -> Any:
    kind = ComponentType.MACHINE_LEARNING_MODEL
    return Component(name=name, type=kind, hashes=[_sha256(sha256)], bom_ref=f"source:{name}:{sha256}")


def _tools(records: Iterable[StageRecord]) -> Iterable[Any]:
    used: dict[tuple[str, str], set[str]] = {("gpuserve", version("gpuserve")): set()}
    for record in records:
        for name, release in record.tools.items():
            if release != "absent":
                used.setdefault((name, release), set()).add(record.stage)
    for (name, release), stages in sorted(used.items()):
        yield Component(
            name=name,
            version=release,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", None, name, release),
            properties=[Property(name="gpuserve:stage", value=stage) for stage in sorted(stages)],
            bom_ref=f"tool:{name}@{release}",
        )


def _sha256(digits: str) -> Any:
    return HashType(alg=HashAlgorithm.SHA_256, content=digits)
