"""Image references: `registry/repository[:tag][@digest]`."""

import ipaddress
import os
import re
from dataclasses import dataclass

from gpuserve.kubernetes.image_names import REFERENCE
from gpuserve_images.errors import ImageError

ADDRESSES_VARIABLE = "GPUSERVE_REGISTRY_ADDRESSES"
"""Environment variable: `name=address` of registries that are reached elsewhere than by their name, separated by commas, such as
`localhost:5000=http://10.244.0.1:5000` in a pod. Names in images stay as they are, as with a mirror of containerd's."""

_DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True)
class Reference:
    """One place in a registry.

    Attributes:
        registry: Host with optional port, e.g. `localhost:5000`; `docker.io` when the text named none.
        repository: Path below the registry, e.g. `models/filetype`.
        tag: Tag, or None.
        digest: `sha256:<hex>`, or None.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference as people write it; `debian:bookworm-slim` means Docker Hub's `library/debian`.

        Raises:
            ImageError: The text is not a reference.
        """
        match = REFERENCE.fullmatch(text)
        if match is None:
            raise ImageError(
                "image reference",
                "it is not of the form registry/repository[:tag][@sha256:digest]",
                "Write for example localhost:5000/models/filetype:1 (lower case, no spaces)",
                value=repr(text),
            )
        registry = match["registry"] or _DOCKER_HUB
        repository = match["repository"]
        if registry == _DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, match["tag"], match["digest"])

    @property
    def host(self) -> str:
        """Host that serves the registry's API (Docker Hub's differs from its name)."""
        return _DOCKER_HUB_API if self.registry == _DOCKER_HUB else self.registry

    @property
    def selector(self) -> str:
        """What to ask the registry's manifest endpoint for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def pinned(self, digest: str) -> str:
        """Return this repository's reference by digest."""
        return f"{self.registry}/{self.repository}@{digest}"

    def __str__(self) -> str:
        """Return the reference as text."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def is_loopback(registry: str) -> bool:
    """Tell whether a registry is on this machine, where plain HTTP is spoken."""
    host = registry.rsplit(":", 1)[0] if re.search(r":\d+$", registry) else registry
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_of(registry: str) -> str:
    """Return where a registry is reached from here: `https://<its name>`, plain HTTP on this machine, or as the environment says.

    Args:
        registry: Host with optional port.
    """
    for entry in os.environ.get(ADDRESSES_VARIABLE, "").split(","):
        name, _, address = entry.strip().partition("=")
        if name == registry and address:
            return address.rstrip("/")
    return f"{'http' if is_loopback(registry) else 'https'}://{registry}"
