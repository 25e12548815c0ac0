"""`oci` addresses: the files of an artifact, or of an image that holds a model only."""

from collections.abc import Generator
from contextlib import contextmanager

from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import Json
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference
from gpuserve_images.sources.addresses import Address
from gpuserve_images.sources.remote import LAYERS, HiccupError, Listing, Reading, RemoteFile

_TITLE = "org.opencontainers.image.title"
# oras packs folders, and says so with this annotation.
_UNPACK = "io.deis.oras.content.unpack"
_PLATFORM = ("linux", "amd64")
_FOR_ALL = ("unknown", None)


class Artifact:
    """An artifact or image by digest."""

    def __init__(self, address: Address) -> None:
        """Connect to nothing yet.

        Raises:
            ImageError: When the reference is malformed.
        """
        self._address = address
        place = Reference.parse(address.place)
        self._place = Reference(place.registry, place.repository, None if place.digest else place.tag, place.digest)
        self._client = RegistryClient(place.host)

    def pinned(self) -> str:
        """Return the reference by the digest that it has now."""
        return self._place.pinned(self._manifest(self._place).digest)

    def listing(self) -> Listing:
        """Return the files, which are the artifact's layers."""
        found = self._manifest(self._place)
        if entries := found.document.get("manifests"):
            chosen = self._of_index(entries)
            found = self._manifest(Reference(self._place.registry, self._place.repository, digest=chosen))
        files = tuple(_file(number, layer) for number, layer in enumerate(found.layers))
        if not files:
            raise SourceError(self._address.shown, "has no layers, so it holds no model", "Name an artifact with files.")
        return Listing(files, folder=True)

    @contextmanager
    def read(self, file: RemoteFile, start: int) -> Generator[Reading]:
        """Open a blob from a byte on."""
        size = file.size or 0
        if start >= size > 0:
            yield Reading(start, size, iter(()))
            return
        try:
            yield Reading(start, size, self._client.blob_chunks(self._place, file.where, start, size=size))
        except RegistryError as error:
            if error.status is None:
                # The client tried again already where there was no answer; what broke off in the middle is continued.
                raise HiccupError(error.reason) from error
            raise

    def _manifest(self, place: Reference) -> Manifest:
        found = self._client.manifest(place)
        if found is None:
            reason = f"does not exist: the registry has no {place.selector}"
            raise SourceError(self._address.shown, reason, "Correct the repository or the digest.", value="HTTP 404")
        return found

    def _of_index(self, entries: list[Json]) -> str:
        """Return the digest of the one image that counts: a model is the same on each platform."""
        images = [entry for entry in entries if (entry.get("platform") or {}).get("os") not in _FOR_ALL] or entries
        for entry in images:
            about = entry.get("platform") or {}
            if (about.get("os"), about.get("architecture")) == _PLATFORM or len(images) == 1:
                return entry["digest"]
        reason = f"is an index of {len(images)} images, none of them for {'/'.join(_PLATFORM)}"
        raise SourceError(self._address.shown, reason, "Name one of its images by digest.")


def _file(number: int, layer: Json) -> RemoteFile:
    digest: str = layer["digest"]
    annotations: dict[str, str] = layer.get("annotations") or {}
    title = annotations.get(_TITLE)
    packed = annotations.get(_UNPACK) == "true" or ".tar" in layer.get("mediaType", "")
    path = f"{LAYERS}/{number:03}" if packed or title is None else title
    return RemoteFile(path, digest, layer["size"], digest.removeprefix("sha256:"))
