"""Models at addresses, as tests of their sources want them."""

import hashlib

from e2e_small_model import classifier

from gpuserve_images.sources.spec import SourceSpec

ONNX = classifier().SerializeToString()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(url: str, content: bytes = ONNX, **more: object) -> SourceSpec:
    """Return the source of a file with that content."""
    return SourceSpec.parse({"url": url, "sha256": sha256(content), **more})


def listing(sizes: dict[str, int]) -> bytes:
    """Return what a bucket answers that has objects of these names and sizes."""
    entry = (
        "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
    )
    objects = "".join(entry.format(name, size) for name, size in sizes.items())
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>".encode()
