"""Finished stages in the registry, next to the images: what one machine made, another does not make again."""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, push_artifact
from gpuserve_images.oci.artifact import title_of
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.downloads import steadily
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.store import read_unchanged
from gpuserve_images.records import Progress, silent

STAGE_ARTIFACT = "application/vnd.gpuserve.stage.v1"
REPOSITORY = "stages"
"""Name of the repository of stages, below the repository of a model's images."""

KEY_LENGTH = 40
"""Hex digits of a key in a tag, as in an image's tag."""

WORTH_BYTES_PER_SECOND = 100e6
"""A stage is shared when it took longer than fetching its files at this speed, a gigabit network's: copying weights is not work."""


class StageShare:
    """The stages of one model in a registry. A registry that fails here is asked no more: the stages just run."""

    def __init__(self, repository: str, note: Callable[[str], None]) -> None:
        """Ask nothing yet.

        Args:
            repository: Registry and repository, such as `localhost:5000/models/filetype/stages`.
            note: Told when the registry fails.
        """
        self.repository = repository
        self._note = note
        self._fails = False

    def take(self, stage: str, key: str, place: Path, progress: Progress = silent) -> bool:
        """Fill a folder with a finished stage; False when the registry does not have it, or fails."""
        if self._fails:
            return False
        address = Reference.parse(self.tag(stage, key))
        try:
            return self._take(address, key, place, lambda done, total: progress(f"fetch {stage}", done, total))
        except ImageError as error:
            self._give_up(f"finished stages are not looked up: {error}")
            return False

    def has(self, stage: str, key: str) -> bool:
        """Return whether the registry has a finished stage; False when it fails."""
        if self._fails:
            return False
        address = Reference.parse(self.tag(stage, key))
        try:
            return RegistryClient(address.host).manifest(address) is not None
        except ImageError as error:
            self._give_up(f"finished stages are not looked up: {error}")
            return False

    def give(self, stage: str, key: str, folder: Path, progress: Progress) -> bool:
        """Store a finished stage; False when the registry fails."""
        if self._fails:
            return False
        files = {path.relative_to(folder).as_posix(): File(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        try:
            push_artifact(
                self.tag(stage, key),
                files,
                artifact_type=STAGE_ARTIFACT,
                annotations={"io.gpuserve.stage": stage, "io.gpuserve.stage.key": key},
                progress=lambda done, total: progress(f"share {stage}", done, total),
            )
        except RegistryError as error:
            self._give_up(f"finished stages are not shared: {error}")
            return False
        return True

    def tag(self, stage: str, key: str) -> str:
        """Return the address of a stage."""
        return f"{self.repository}:{stage}-{key[:KEY_LENGTH]}"

    def _give_up(self, reason: str) -> None:
        self._fails = True
        self._note(reason)

    def _take(self, address: Reference, key: str, place: Path, progress: Callable[[int, int], None]) -> bool:
        client = RegistryClient(address.host)
        found = client.manifest(address)
        if found is None:
            return False
        if found.document.get("artifactType") != STAGE_ARTIFACT:
            return False
        total, done = sum(layer["size"] for layer in found.layers), 0
        for layer in found.layers:
            file = place / _inside(title_of(str(address), layer), address)
            file.parent.mkdir(parents=True, exist_ok=True)
            sha256 = hashlib.sha256()
            with file.open("wb") as stream:
                for chunk in steadily(client, address, layer["digest"], layer["size"]):
                    sha256.update(chunk)
                    stream.write(chunk)
                    done += len(chunk)
                    progress(done, total)
            if layer["digest"] != f"sha256:{sha256.hexdigest()}":
                reason = f"it sent other bytes than {layer['digest']}"
                raise RegistryError(address.registry, address.repository, reason, "Check the proxy or mirror before it")
        kept = read_unchanged(place)
        return kept is not None and kept.key == key


def _inside(name: str, address: Reference) -> str:
    """Return the path of a file below the stage's folder.

    Raises:
        RegistryError: When it would lie elsewhere.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        reason = f"a stage has a file of the name {name!r}, which leads out of its folder"
        raise RegistryError(address.registry, address.repository, reason, "Somebody tampered with it: delete that tag")
    return name
