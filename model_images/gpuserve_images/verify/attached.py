"""Reports attached to images: what was measured about an image, in the registry beside it and never in it.

An image's digest depends on its inputs alone, and timings do not, so a report refers to its image (an OCI referrer). What others
need to know of it stands in the referrer's own annotations, which a registry lists without a download.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import File, read_artifact, resolve
from gpuserve_images.oci.referrers import Referrer, attach, referrers
from gpuserve_images.verify.capacity import Capacity, limit_ms
from gpuserve_images.verify.report import VerifyReport
from gpuserve_images.verify.spec import SloSpec

REPORT = "application/vnd.gpuserve.report.v1"
"""Artifact type of a report: `report.json` and `report.html`."""

DATA = "report.json"
"""The file with all of it, for programs."""

CAPACITY = "io.gpuserve.capacity"
"""Annotation with the measured capacity as JSON, without its points and notes."""

MODEL, BUILD = "io.gpuserve.model", "io.gpuserve.build"
"""The image's own annotations that name its model and the build of that (see `pipeline.report.Summary`)."""

CREATED = "org.opencontainers.image.created"
"""The OCI image specification's annotation for the time; of two reports the later one counts."""

OF_THE_BUILD = ("build", "parity", "bars", "engines", "ran", "ran_bars", "notes")
"""What a report says of the image itself, whenever its speed is measured."""


def attach_report(image: str, report: VerifyReport) -> str:
    """Attach a report to an image; one of speed alone is completed by what the last one says about the image itself.

    Args:
        image: Address of the image; by tag, it is the image that the tag names now.
        report: What was measured.

    Returns:
        Address of the report by digest.

    Raises:
        ImageError: When there is no such image, or it holds another model or build than was measured.
        RegistryError: When the registry is down or refuses.
    """
    pinned = require_image_of(image, report.model, report.build)
    report = _completed(report, pinned).model_copy(update={"image": pinned})
    annotations = {CREATED: datetime.now(UTC).isoformat(timespec="milliseconds")}
    if report.capacity is not None:
        annotations[CAPACITY] = report.capacity.model_dump_json(exclude={"points", "notes"})
    files = {
        DATA: File(report.model_dump_json(indent=2).encode()),
        "report.html": File(report.html().encode()),
    }
    return attach(pinned, files, artifact_type=REPORT, annotations=annotations).reference


def require_image_of(image: str, model: str, build: str | None) -> str:
    """Return an image's address by digest, where the image is one of a model.

    Args:
        image: Its address.
        model: Name of the model that it must hold; an image that does not say what it holds may hold any.
        build: Build of that model; None for any, such as that of a server that runs the image.

    Raises:
        ImageError: When there is no such image, or it holds something else.
        RegistryError: When the registry is down or refuses.
    """
    found = resolve(image)
    if found is None:
        raise ImageError(image, "is not in the registry", "Name an image that was pushed, by tag or by digest.")
    holds, made = found.annotations.get(MODEL), found.annotations.get(BUILD)
    if holds not in {None, model} or (build is not None and made not in {None, build}):
        measured = f"build {build} of model {model}" if build else f"model {model}"
        reason = f"holds build {made} of model {holds}, and what was measured is {measured}"
        fix = f"Name the image of what is measured, or measure this one's: the YAML file of {holds}, with `--build {made}` or `--url`."
        raise ImageError(image, reason, fix)
    return found.reference


def attached_capacity(image: str, slo: SloSpec | None = None) -> Capacity | None:
    """Return the capacity that was last attached to an image, without its points; None when none was.

    Args:
        image: Address of the image; by tag, it is the image that the tag names now.
        slo: The promise to read it at: the image does not depend on that, so it may have changed since the measurement. Default: the
            one that it was measured for. Another one costs a download of the report, whose points are then judged anew.

    Raises:
        ImageError: When the report has to be read and cannot be, see `attached_report`.
        RegistryError: When the registry is down or refuses.
    """
    last = _last_measured(_reports(image))
    found = _read(last) if last else None
    if last is None or found is None or slo is None or found.bound_ms == limit_ms(slo):
        return found
    whole = _whole(last.reference).capacity
    return whole.at(slo).model_copy(update={"points": (), "notes": ()}) if whole else None


def latest_capacity(reports: Sequence[Referrer]) -> Capacity | None:
    """Return the capacity of the latest of an image's reports, without its points; None where none of them has one."""
    last = _last_measured(_in_time(reports))
    return _read(last) if last else None


def attached_report(image: str) -> VerifyReport | None:
    """Return the report that was last attached to an image, whole; None when none was.

    Args:
        image: Address of the image; by tag, it is the image that the tag names now.

    Raises:
        ImageError: When the report is damaged, or a later version of gpuserve wrote what this one does not understand.
        RegistryError: When the registry is down or refuses.
    """
    reports = _reports(image)
    return _whole(reports[-1].reference) if reports else None


def _completed(report: VerifyReport, pinned: str) -> VerifyReport:
    """Return a report with the build, parity and engines of the image, which are the same whenever its speed is measured."""
    if report.parity is not None or report.engines:
        return report
    best: VerifyReport | None = None
    for earlier in reversed(_reports(pinned)):
        try:
            found = _whole(earlier.reference)
        except ImageError:
            # Of another version of gpuserve: no reason to lose what was just measured. A registry that is down says so when this is sent.
            continue
        if found.model != report.model or report.build not in {None, found.build}:
            continue
        best = best or found
        if found.parity is not None or found.engines:
            best = found
            break
    if best is None:
        return report
    return report.model_copy(update={name: getattr(best, name) for name in OF_THE_BUILD})


def _whole(reference: str) -> VerifyReport:
    try:
        return VerifyReport.model_validate_json(read_artifact(reference)[DATA])
    except (KeyError, ValidationError) as error:
        reason = "is no report that this version understands"
        raise ImageError(reference, reason, "Use the version of gpuserve that wrote it.") from error


def _reports(image: str) -> list[Referrer]:
    """Return the reports of an image, the last one last; none where there is no image."""
    if "@" not in image:
        found = resolve(image)
        if found is None:
            return []
        image = found.reference
    return _in_time(referrers(image, artifact_type=REPORT))


def _in_time(reports: Sequence[Referrer]) -> list[Referrer]:
    return sorted(reports, key=lambda report: report.annotations.get(CREATED, ""))


def _last_measured(reports: Sequence[Referrer]) -> Referrer | None:
    return next((report for report in reversed(reports) if CAPACITY in report.annotations), None)


def _read(report: Referrer) -> Capacity | None:
    """Read a capacity; None where a later version of gpuserve wrote what this one does not understand."""
    try:
        return Capacity.model_validate(json.loads(report.annotations[CAPACITY]))
    except ValueError:
        return None
