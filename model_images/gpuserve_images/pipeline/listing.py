"""A model's images in a registry."""

import re
from dataclasses import replace
from datetime import datetime

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.oci.client import RegistryClient, Request
from gpuserve_images.oci.config import INDEXES
from gpuserve_images.oci.manifests import Manifest
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
    """Return the images of a model, the newest first; or the one that a tag or digest names.

    Args:
        repository: Registry and repository, such as `localhost:5000/models/filetype`, perhaps with a tag or digest.

    Raises:
        RegistryError: When the registry is down or refuses.
    """
    place = Reference.parse(repository)
    client = RegistryClient(place.host)
    if place.tag or place.digest:
        image = _image(client, place)
        return [image] if image else []
    places = [replace(place, tag=tag) for tag in _tags(client, place) if _CONTENT_TAG.fullmatch(tag)]
    found = [image for place in places if (image := _image(client, place))]
    return sorted(found, key=lambda image: (image.created is not None, image.created), reverse=True)


def _tags(client: RegistryClient, place: Reference) -> list[str]:
    """Return all tags of a repository; none when the registry has no such repository."""
    request = Request("GET", client.url(place, f"tags/list?n={_PAGE}"))
    answer = client.ask(place, request, accept=(200, 404))
    if not answer.ok:
        return []
    # Once each: what is pushed meanwhile may move a tag to the next page.
    return list(dict.fromkeys(tag for page in pages(client, place, request, answer) for tag in page.get("tags") or []))


def _image(client: RegistryClient, place: Reference) -> ListedImage | None:
    """Return one image, or None when it is not gpuserve's or has gone meanwhile."""
    found = client.manifest(place)
    if found is None:
        return None
    summary = Summary.from_annotations(found.document.get("annotations") or {})
    if summary is None:
        return None
    reference = place.pinned(found.digest)
    reports = referrers(reference, artifact_type=REPORT)
    times = [report.annotations[CREATED] for report in reports if CREATED in report.annotations]
    return ListedImage(
        reference=reference,
        tag=summary.key[:TAG_LENGTH],
        summary=summary,
        bytes=sum(_layers(client, place, found).values()),
        created=datetime.fromisoformat(min(times)) if times else None,
        capacity=latest_capacity(reports),
    )


def _layers(client: RegistryClient, place: Reference, found: Manifest) -> dict[str, int]:
    """Return the layers by digest, with their sizes; of an index those of all its platforms, which share some."""
    document = found.document
    if found.media_type not in INDEXES:
        return {layer["digest"]: layer["size"] for layer in found.layers}
    parts = document.get("manifests") or []
    of_platforms = (client.manifest(replace(place, digest=part["digest"])) for part in parts)
    return {digest: size for part in of_platforms if part for digest, size in _layers(client, place, part).items()}
