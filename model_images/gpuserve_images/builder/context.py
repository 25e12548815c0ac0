"""What a build in the cluster reads from this machine, as one artifact in the registry: content-addressed, so sent once."""

import json
import os
import tarfile
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from gpuserve.kubernetes.spec import plain
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.portable import is_key_file, require_portable, with_public_key
from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, push_artifact
from gpuserve_images.oci.artifact import title_of
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.downloads import steadily
from gpuserve_images.oci.layers import CHUNK_BYTES
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.chain import Chain
from gpuserve_images.pipeline.company import others
from gpuserve_images.pipeline.job import Job
from gpuserve_images.records import Progress, sha256_file
from gpuserve_images.samples.codec import io_path
from gpuserve_images.samples.picking import pick
from gpuserve_images.samples.spec import SampleSpec
from gpuserve_images.sources.formats import is_archive
from gpuserve_images.sources.packages import package_folder
from gpuserve_images.sources.resolving import format_of, locate, resolve
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target

CONTEXT_ARTIFACT = "application/vnd.gpuserve.build.context.v1"
REPOSITORY = "contexts"
"""Name of the repository of contexts, below the repository of a model's images."""

PACKAGES = "packages"
"""Folder of Python packages that a model comes from: its `io` code may read more of them than the model."""

_ORDER = "context.json"
_SMALL = "files.tar"


@dataclass(frozen=True)
class Order:
    """What is to be built, in the words of the machine that builds.

    Attributes:
        model: The model; its paths are relative to the context.
        build: Name of the build.
        key: Its content key on the machine that asks.
        registry: Registry and path prefix.
        base: Base image, or empty for the target's default.
        target: Where the image will run.
        tools: Version of each tool that a stage's result depends on, there.
    """

    model: ModelSpec
    build: str
    key: str
    registry: str
    base: str
    target: Target
    tools: Mapping[str, str]

    def job(self, folder: Path) -> Job:
        """Return the build, with its files below `folder`."""
        return Job(self.model, self.build, folder, self.target)

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(_given(plain(self)), sort_keys=True, indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Order":
        """Read it back."""
        data: dict[str, Any] = json.loads(content)
        changed: dict[str, Any] = {"model": ModelSpec.parse(data["model"]), "target": Target(**data["target"])}
        return cls(**(data | changed))


def tools_of(chain: Chain) -> dict[str, str]:
    """Return the version of each tool that a stage's result depends on."""
    return {tool: version for stage in chain.stages().values() for tool, version in stage.tools.items()}


def push(chain: Chain, registry: str, base: str, progress: Progress) -> str:
    """Send what a build reads to the registry, and return the artifact's reference by digest.

    It has no tag, so it needs no name and the registry's own garbage collection takes it; the pod asks for it by digest.

    Args:
        chain: The build.
        registry: Registry and path prefix of its image.
        base: Base image as it was asked for, or empty.
        progress: Told bytes done and bytes in all.

    Raises:
        SpecError: See `portable.require_portable`.
        SigningKeyError: When the signer's public key cannot be used.
        SourceError: When the model or its samples are missing.
        RegistryError: When the registry is down or refuses.
    """
    packed = _Packed(chain.job)
    order = Order(packed.model, chain.job.build, chain.key, registry, base, chain.job.target, tools_of(chain))
    with _tar(packed.small) as archive:
        files = {**packed.large, _SMALL: File(archive), _ORDER: File(order.encode())}
        place = f"{registry}/{chain.job.model.name}/{REPOSITORY}"
        return push_artifact(
            place,
            files,
            artifact_type=CONTEXT_ARTIFACT,
            progress=lambda done, total: progress("context", done, total),
        ).reference


def pull(reference: str, folder: Path) -> Order:
    """Fetch a context into an empty folder.

    Args:
        reference: What `push` returned.
        folder: Where its files go.

    Raises:
        RegistryError: When the registry is down, refuses, lacks it, or sends other bytes.
    """
    place = Reference.parse(reference)
    client = RegistryClient(place.host)
    found = client.manifest(place)
    if found is None:
        fix = "Run `pulumi up` again: it sends the context anew"
        raise RegistryError(place.registry, place.repository, "it lacks the build's context", fix, status=404)
    for layer in found.layers:
        file = folder / _inside(title_of(reference, layer))
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for chunk in steadily(client, place, layer["digest"], layer["size"]):
                stream.write(chunk)
        if layer["digest"] != f"sha256:{sha256_file(file)}":
            reason = f"it sent other bytes than {layer['digest']}"
            raise RegistryError(place.registry, place.repository, reason, "Check the proxy or mirror before it")
    _unpack(folder / _SMALL, folder)
    return Order.decode((folder / _ORDER).read_bytes())


class _Packed:
    """The files of a build by their place in the context, and the model's spec with those places.

    Attributes:
        large: Files that are sent each on its own, such as weights: unchanged ones are not sent again.
        small: The others, which go as one archive: hundreds of samples would be hundreds of requests.
    """

    def __init__(self, job: Job) -> None:
        require_portable(job)
        self.large: dict[str, File] = {}
        self.small: dict[str, File] = {}
        self._folders: dict[Path, str] = {}
        company = others(job).values()
        mine = [job, *(other for other in company if other.model.name == job.model.name)]
        self.model = self._pack(mine, "").model_copy(update={"bake": with_public_key(job)})
        base_key = job.model.bake.base_key
        if is_key_file(base_key):
            # Under its own name, which is part of the image's key.
            self.small[base_key] = File(job.folder / base_key)
        for other in company:
            if other not in mine:
                # Where an ensemble looks for its models: beside this one's YAML file.
                content = json.dumps(_given(plain(self._pack([other], f"models/{other.model.name}/"))))
                self.small[f"{other.model.name}.yaml"] = File(content.encode())

    def _pack(self, jobs: Sequence[Job], place: str) -> ModelSpec:
        """Take the files of builds of one model, and return it with those builds and the files' places."""
        first = jobs[0]
        model = plain(first.model)
        model |= {**self._source(first, place), **self._code(first, place)}
        builds = {job.build: self._calibration(job, place) for job in jobs}
        # A number must have a build, though its image is another one.
        named = {name: model["builds"][name] for name in first.model.layout.numbers.values()}
        inputs = self._samples(first.model.verify.inputs or (), first, place, "verify.inputs")
        return ModelSpec.parse({**model, "builds": named | builds, "verify": {**model["verify"], "inputs": inputs or None}})

    def _source(self, job: Job, place: str) -> dict[str, Any]:
        source, folder = job.model.source, job.folder
        if source.package is not None:
            root = package_folder(source.package, "source.package")
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    self.small[f"{PACKAGES}/{source.package}/{path.relative_to(root).as_posix()}"] = File(path)
            return {}
        if source.file is None:
            return {}
        here = locate(source, folder)
        if here.is_file() and is_archive(here.name):
            self.large[f"{place}source/{here.name}"] = File(here)
            return {"source": {**plain(source), "file": f"{place}source/{here.name}"}}
        files = resolve(source, folder)
        whole = files.entry.name if files.entry.is_dir() else ""
        for name, path in files.files.items():
            self.large[str(PurePosixPath(place, "source", whole, name))] = File(path)
        entry = PurePosixPath(place, "source", whole or files.entry.relative_to(files.root).as_posix())
        # Its digest was checked here; the context's own holds from now on.
        changes = {"file": str(entry), "path": None, "sha256": None, "format": format_of(source, folder)}
        return {"source": {**plain(source), **changes}}

    def _code(self, job: Job, place: str) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        code = io_path(job.model.io, job.folder)
        if code is not None:
            changes["io"] = f"{place}io/{code.name}"
            self.small[changes["io"]] = File(code)
        factory = job.model.export.factory
        file, _, function = (factory or "").rpartition(":")
        if file.endswith(".py"):
            path = (job.folder / file).resolve()
            self.small[f"{place}export/{path.name}"] = File(path)
            changes["export"] = {**plain(job.model.export), "factory": f"{place}export/{path.name}:{function}"}
        return changes

    def _calibration(self, job: Job, place: str) -> dict[str, Any]:
        build = plain(job.spec)
        if job.spec.calibrate is not None:
            inputs = self._samples(job.spec.calibrate.inputs, job, place, f"builds.{job.build}.calibrate.inputs")
            build["calibrate"] = {**plain(job.spec.calibrate), "inputs": inputs}
        return build

    def _samples(self, named: Iterable[SampleSpec], job: Job, place: str, field: str) -> list[dict[str, str]]:
        """Give each file a folder of its own, in order: what is picked there, and which part of it calibrates, is the same as here."""
        folders: list[dict[str, str]] = []
        for file in pick(named, job.folder, field):
            # What several uses name is sent once.
            folder = self._folders.setdefault(file, f"{place}samples/{len(self._folders):05}")
            self.small[f"{folder}/{file.name}"] = File(file)
            folders.append({"folder": folder})
        return folders


def _given(value: Any) -> Any:
    """Leave out what says nothing: a field that is not given and one that is null are the same."""
    if isinstance(value, dict):
        return {name: _given(item) for name, item in cast("dict[str, Any]", value).items() if item is not None}
    return [_given(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


@contextmanager
def _tar(files: Mapping[str, File]) -> Generator[Path]:
    """Yield an archive that is the same for the same files."""
    layer = Layer({f"/{name}": file for name, file in files.items()})
    with tempfile.NamedTemporaryFile(prefix="gpuserve-", suffix=".tar") as stream:
        for chunk in layer.chunks():
            stream.write(chunk)
        stream.flush()
        yield Path(stream.name)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive, "r:") as members:
        for member in members:
            content = members.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            file = folder / _inside(member.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                while chunk := content.read(CHUNK_BYTES):
                    stream.write(chunk)
    archive.unlink()


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or os.sep * 2 in name:
        fix = "Somebody tampered with it: run `pulumi up` again, which sends the context anew."
        raise JobError("build context", f"has a file of the name {name!r}, which leads out of its folder", fix)
    return name
