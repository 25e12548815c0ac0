"""A model's images in a registry."""

import json
import re
from datetime import datetime
from typing import Any, cast

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.oci.client import RegistryClient, Request
from gpuserve_images.oci.config import INDEXES
from gpuserve_images.oci.pages import pages
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.referrers import referrers
from gpuserve_images.pipeline.key import TAG_LENGTH
from gpuserve_images.pipeline.report import Summary
from gpuserve_images.verify.attached import CREATED, REPORT, latest_capacity
from gpuserve_images.verify.capacity import Capacity

_PAGE = 1000
_CONTENT_TAG = re.compile(rf"[0-9a-f]{{{TAG_LENGTH}}}")


class ListedImage(Spec):
    """One image of a model.

    Attributes:
        reference: Its address by digest.
        tag: Its content tag.
        summary: What it says about itself.
        bytes: Size of its layers, those of its base included.
        created: When it was built, as its first report says; None where none is attached.
        capacity: What it was measured to answer, as last attached, without its points; None where it was not measured.
    """

    reference: str
    tag: str
    summary: Summary
    bytes: int
    created: datetime | None = None
    capacity: Capacity | None = None


def images_of(repository: str) -> list[ListedImage]:
    """Return the images of a model, the newest first.

    Args:
        repository: Registry and repository, such as `localhost:5000/models/filetype`.

    Raises:
        RegistryError: When the registry is down or refuses.
    """
    place = Reference.parse(repository)
    client = RegistryClient(place.host)
    found = [image for tag in _tags(client, place) if _CONTENT_TAG.fullmatch(tag) and (image := _image(client, place, tag))]
    return sorted(found, key=lambda image: (image.created is not None, image.created), reverse=True)


def _tags(client: RegistryClient, place: Reference) -> list[str]:
    """Return all tags of a repository; none when the registry has no such repository."""
    request = Request("GET", client.url(place, f"tags/list?n={_PAGE}"))
    answer = client.ask(place, request, accept=(200, 404))
    if not answer.ok:
        return []
    # Once each: what is pushed meanwhile may move a tag to the next page.
    return list(dict.fromkeys(tag for page in pages(client, place, request, answer) for tag in page.json().get("tags") or []))


def _image(client: RegistryClient, place: Reference, tag: str) -> ListedImage | None:
    """Return one image, or None when it is not gpuserve's or has gone meanwhile."""
    found = client.manifest(Reference(place.registry, place.repository, tag=tag))
    if found is None:
        return None
    document = cast("dict[str, Any]", json.loads(found.content))
    summary = Summary.from_annotations(document.get("annotations") or {})
    if summary is None:
        return None
    parts = document["manifests"] if found.media_type in INDEXES else document["layers"]
    reference = place.pinned(found.digest)
    reports = referrers(reference, artifact_type=REPORT)
    times = [report.annotations[CREATED] for report in reports if CREATED in report.annotations]
    return ListedImage(
        reference=reference,
        tag=tag,
        summary=summary,
        bytes=sum(int(part["size"]) for part in parts),
        created=datetime.fromisoformat(min(times)) if times else None,
        capacity=latest_capacity(reports),
    )
