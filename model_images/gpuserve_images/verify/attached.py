"""Reports attached to images: what was measured about an image, in the registry beside it and never in it.

An image's digest depends on its inputs alone, and timings do not, so a report refers to its image (an OCI referrer). What others
need to know of it stands in the referrer's own annotations, which a registry lists without a download.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import ValidationError

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import File, read_artifact, resolve
from gpuserve_images.oci.referrers import Referrer, attach, referrers
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.report import VerifyReport

REPORT = "application/vnd.gpuserve.report.v1"
"""Artifact type of a report: `report.json` and `report.html`."""

DATA = "report.json"
"""The file with all of it, for programs."""

CAPACITY = "io.gpuserve.capacity"
"""Annotation with the measured capacity as JSON, without its points."""

CREATED = "org.opencontainers.image.created"
"""The OCI image specification's annotation for the time; of two reports the later one counts."""


def attach_report(image: str, report: VerifyReport) -> str:
    """Attach a report to an image.

    Args:
        image: Address of the image; by tag, it is the image that the tag names now.
        report: What was measured.

    Returns:
        Address of the report by digest.

    Raises:
        ImageError: When there is no such image.
        RegistryError: When the registry is down or refuses.
    """
    pinned = _pinned(image)
    report = report.model_copy(update={"image": pinned})
    annotations = {CREATED: datetime.now(UTC).isoformat(timespec="milliseconds")}
    if report.capacity is not None:
        annotations[CAPACITY] = report.capacity.model_dump_json(exclude={"points"})
    files = {
        DATA: File(report.model_dump_json(indent=2).encode()),
        "report.html": File(report.html().encode()),
    }
    return attach(pinned, files, artifact_type=REPORT, annotations=annotations).reference


def attached_capacity(image: str) -> Capacity | None:
    """Return the capacity that was last attached to an image, without its points; None when none was.

    Args:
        image: Address of the image; by tag, it is the image that the tag names now.

    Raises:
        RegistryError: When the registry is down or refuses.
    """
    measured = [report for report in _reports(image) if CAPACITY in report.annotations]
    return _read(measured[-1].annotations) if measured else None


def attached_report(image: str) -> VerifyReport | None:
    """Return the report that was last attached to an image, whole; None when none was.

    Args:
        image: Address of the image; by tag, it is the image that the tag names now.

    Raises:
        ImageError: When the report is damaged, or a later version of gpuserve wrote what this one does not understand.
        RegistryError: When the registry is down or refuses.
    """
    reports = _reports(image)
    if not reports:
        return None
    last = reports[-1].reference
    try:
        return VerifyReport.model_validate_json(read_artifact(last)[DATA])
    except (KeyError, ValidationError) as error:
        raise ImageError(
            last, "is no report that this version understands", "Use the version of gpuserve that wrote it."
        ) from error


def _reports(image: str) -> list[Referrer]:
    """Return the reports of an image, the last one last; none where there is no image."""
    if "@" not in image:
        found = resolve(image)
        if found is None:
            return []
        image = found.reference
    return sorted(referrers(image, artifact_type=REPORT), key=lambda report: report.annotations.get(CREATED, ""))


def _read(annotations: Mapping[str, str]) -> Capacity | None:
    """Read a capacity; None where a later version of gpuserve wrote what this one does not understand."""
    try:
        return Capacity.model_validate(json.loads(annotations[CAPACITY]))
    except ValueError:
        return None


def _pinned(image: str) -> str:
    if "@" in image:
        return image
    found = resolve(image)
    if found is None:
        raise ImageError(image, "is not in the registry", "Name an image that was pushed, by tag or by digest.")
    return found.reference
