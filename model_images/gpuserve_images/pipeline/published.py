"""What the registry has already: asked without what a build needs, because every preview asks."""

from gpuserve_images.errors import SourceError
from gpuserve_images.oci import resolve
from gpuserve_images.pipeline.key import image_tag
from gpuserve_images.pipeline.report import BuildReport, Summary


def published(tag: str) -> BuildReport | None:
    """Return the report of an image that the registry has, or None: one request.

    Args:
        tag: Address by content tag.

    Raises:
        SourceError: When something else than gpuserve pushed that tag, or it names the image of another build.
        RegistryError: When the registry is down or refuses.
    """
    found = resolve(tag)
    if found is None:
        return None
    summary = Summary.from_annotations(found.annotations)
    if summary is None:
        reason = "is in the registry, but does not carry gpuserve's annotations, so it was pushed by something else"
        raise SourceError(tag, reason, "Delete that tag, or use another registry path.")
    # A signature holds under any tag: whoever may push could put an older image of the same signer here.
    if (own := image_tag(summary.key)) != tag.rpartition(":")[2]:
        reason = f"is the image of model {summary.model}, build {summary.build}, whose own tag is {own}: somebody moved the tag"
        raise SourceError(
            tag, reason, "Delete that tag: the next build pushes the image that belongs there.", value=found.digest
        )
    return BuildReport(reference=found.reference, tag=tag, digest=found.digest, summary=summary, built=False, pushed=False)
