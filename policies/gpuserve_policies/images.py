"""Rules about container images."""

import re
from collections.abc import Iterator

from gpuserve_policies.pods import Container, per_container
from gpuserve_policies.rule import Context, Rule, Violation

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


@per_container
def _image_pinned(container: Container, context: Context) -> Iterator[Violation]:
    field = f"{container.path}.image"
    image = container.read("image")
    if not image:
        yield Violation(field, image, "is missing")
    elif not _DIGEST.fullmatch(str(image)) and image not in context.built_images:
        yield Violation(field, image, _why(str(image)))


def _why(image: str) -> str:
    if "@" in image:
        return "has a malformed digest"
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in {"", "latest"}:
        return "means whatever was pushed last"
    return "is pinned by its tag only, and a tag can be moved to another image"


IMAGE_PINNED = Rule(
    name="image-digest",
    description=(
        "Every image is pinned by digest, so that what was reviewed is what runs, on every node and after every restart; "
        "an image that the same stack builds may stand by its content tag until `up` puts in the digest."
    ),
    check=_image_pinned,
    fix="write the reference as `name@sha256:<digest>`; `ModelImage.reference` is one",
    severity="high",
    url="https://kubernetes.io/docs/concepts/containers/images/#image-names",
)
