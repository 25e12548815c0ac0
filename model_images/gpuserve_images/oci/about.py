"""What an image says about itself, in the names that the OCI image specification gives (annotations.md)."""

from dataclasses import dataclass, fields

from gpuserve_images.oci.config import CREATED

_PREFIX = "org.opencontainers.image."


@dataclass(frozen=True)
class About:
    """Texts about an image; empty ones are left out.

    Attributes:
        title: Name for people.
        description: What it is.
        version: Version of what is in it.
        revision: Commit of its source.
        source: Address of its source.
        url: Address of more about it.
        vendor: Who made it.
        licenses: Licences, as SPDX writes them.
    """

    title: str = ""
    description: str = ""
    version: str = ""
    revision: str = ""
    source: str = ""
    url: str = ""
    vendor: str = ""
    licenses: str = ""

    def notes(self) -> dict[str, str]:
        """Return annotations, which are good as labels too; the time is fixed, so that the digest is the same on any day."""
        texts = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        return {_PREFIX + name: text for name, text in {**texts, "created": CREATED}.items() if text}
