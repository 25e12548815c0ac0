"""The pin of an address: read once, so that every later build gets the same bytes or an error."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from gpuserve_images.errors import SourceError
from gpuserve_images.records import Progress, sha256_file, silent
from gpuserve_images.sources.addresses import parse
from gpuserve_images.sources.cache import readable
from gpuserve_images.sources.digests import folder_digest, left_out, tree_digest
from gpuserve_images.sources.downloading import client, require_inside
from gpuserve_images.sources.transfer import Meter, patiently, stand_in, transfer
from gpuserve_images.sources.volume import mounted


@dataclass(frozen=True)
class Pin:
    """What an address holds now.

    Attributes:
        url: The address, with commit or digest where its kind has one.
        sha256: SHA-256 of the file, or tree digest of the folder; None where the address itself says the content.
        size: Bytes, or None where they were not counted.
    """

    url: str
    sha256: str | None
    size: int | None

    @property
    def source(self) -> dict[str, str]:
        """What to write under `source:`."""
        return {"url": self.url} | ({"sha256": self.sha256} if self.sha256 else {})


def pin(url: str, *, progress: Progress = silent) -> Pin:
    """Read an address and return its pin; nothing is kept.

    An `hf` address gets its commit and an `oci` one its digest, which takes one request. Of the others each file is read through
    and thrown away; the largest file must fit the disk of the temporary folder for that time.

    Args:
        url: The address; it needs no pin.
        progress: Told bytes done and bytes in all.

    Raises:
        SourceError: When it is no address, is refused, or gives no file but nothing, a web page or a pointer of Git's.
        RegistryError: When a registry refused.
    """
    try:
        address = parse(url, pinned=False)
    except ValueError as error:
        reason, _, fix = str(error).partition("; ")
        raise SourceError("address", reason, fix or "Correct it.") from error
    where = address.shown
    if address.scheme == "hf":
        from gpuserve_images.sources.hugging_face import HuggingFace

        commit = patiently(where, HuggingFace(address).commit)
        return Pin(f"hf://{address.place}@{commit}" + (f"/{quote(address.path)}" if address.path else ""), None, None)
    if address.scheme == "oci":
        from gpuserve_images.sources.registries import Artifact

        return Pin(f"oci://{patiently(where, Artifact(address).pinned)}", None, None)
    if address.scheme == "pvc":
        place, files = mounted(address)
        size = sum(path.stat().st_size for path in files.values())
        return Pin(url, folder_digest(place) if place.is_dir() else sha256_file(place), size)
    remote = client(address)
    listing = patiently(where, remote.listing)
    files = [file for file in listing.files if not left_out(file.path)]
    meter = Meter(progress, sum(file.size or 0 for file in files))
    digests: dict[str, str] = {}
    size = 0
    with TemporaryDirectory(prefix="gpuserve-pin-") as temporary, readable(Path(temporary)):
        target = Path(temporary, "file")
        for file in files:
            require_inside(file.path, where)
            digests[file.path] = transfer(remote, file, target, where, meter)
            if not listing.folder:
                _require_content(target, where)
            size += target.stat().st_size
            target.unlink()
    return Pin(url, tree_digest(digests) if listing.folder else next(iter(digests.values())), size)


def _require_content(file: Path, where: str) -> None:
    """Refuse to pin for good what is no model: a build would only fail later, with the digest that was asked for.

    Raises:
        SourceError: When the file is empty, or stands in for another one.
    """
    sent = stand_in(file) if file.stat().st_size else "nothing: 0 bytes"
    if sent:
        fix = "Use the address that the file itself is downloaded from, without a log-in in a browser."
        raise SourceError(where, f"sent {sent}", fix)
