"""`pvc` addresses: volumes of the cluster, which the in-cluster builder mounts."""

import os
from pathlib import Path

from gpuserve_images.errors import SourceError
from gpuserve_images.records import sha256_file
from gpuserve_images.sources.addresses import Address
from gpuserve_images.sources.digests import tree_digest, tree_files

MOUNTS = Path("/mnt/pvc")
"""Where the builder's pod mounts each claim, in a folder of the claim's name."""

MOUNTS_VARIABLE = "GPUSERVE_PVC_MOUNTS"
"""Environment variable that names another folder of mounted claims."""


def claim_mount(claim: str) -> Path:
    """Return where a claim is mounted in the builder's pod."""
    return Path(os.environ.get(MOUNTS_VARIABLE) or MOUNTS) / claim


def volume_place(address: Address, pinned: str) -> Path:
    """Return a file or folder of a mounted claim, found to have the pinned digest; it is read where it lies.

    Args:
        address: The address.
        pinned: SHA-256 of the file, or tree digest of the folder.

    Raises:
        SourceError: As `mounted`, or when the content is another.
    """
    place, files = mounted(address)
    digests = {name: sha256_file(path) for name, path in files.items()}
    found = tree_digest(digests) if place.is_dir() else digests[place.name]
    if found != pinned:
        reason = f"has the digest {found}, and {pinned} was expected"
        fix = "See what is in the volume; when the new content is wanted, correct `sha256:`."
        raise SourceError(address.shown, reason, fix)
    return place


def mounted(address: Address) -> tuple[Path, dict[str, Path]]:
    """Return a file or folder of a mounted claim, and its files.

    Raises:
        SourceError: Outside of a pod, or when the claim is not mounted, the path is missing or leaves the claim.
    """
    mount = claim_mount(address.place)
    where = address.shown
    if not mount.is_dir():
        if "KUBERNETES_SERVICE_HOST" not in os.environ and MOUNTS_VARIABLE not in os.environ:
            reason = "is a volume of the cluster, and this machine is outside of it"
            raise SourceError(where, reason, "Build in the cluster (`builder: job`), or give the model another address.")
        reason = f"is not mounted at {mount}"
        raise SourceError(where, reason, f"Mount claim {address.place!r} there in the builder's pod.")
    place = mount / address.path
    if not place.exists():
        raise SourceError(where, f"does not exist in claim {address.place!r}", "Correct the path.", value=address.path)
    inside = mount.resolve()
    files = tree_files(place) if place.is_dir() else {place.name: place}
    for name, path in files.items():
        if not path.resolve().is_relative_to(inside):
            raise SourceError(where, "is a link that leaves its claim", "Copy the file into the claim.", value=name)
    return place, files
