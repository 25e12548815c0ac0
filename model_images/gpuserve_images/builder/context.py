"""What a build in the cluster reads from this machine, as one artifact in the registry: content-addressed, so sent once."""

import json
import os
import tarfile
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.kubernetes.spec import plain
from gpuserve_images.builder.errors import JobError
from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, push_artifact
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.layers import CHUNK_BYTES
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.chain import Chain
from gpuserve_images.pipeline.job import Job
from gpuserve_images.records import Progress, sha256_file
from gpuserve_images.samples.codec import io_path
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
_VARIABLE = "env://"


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
        SpecError: See `require_portable`.
        SourceError: When the model or its samples are missing.
        RegistryError: When the registry is down or refuses.
    """
    packed = _Packed(chain.job)
    order = Order(packed.model(), chain.job.build, chain.key, registry, base, chain.job.target, tools_of(chain))
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
    for layer in cast("list[dict[str, Any]]", json.loads(found.content)["layers"]):
        file = folder / _inside(str(layer["annotations"]["org.opencontainers.image.title"]))
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for chunk in client.blob_chunks(place, layer["digest"]):
                stream.write(chunk)
        if layer["digest"] != f"sha256:{sha256_file(file)}":
            reason = f"it sent other bytes than {layer['digest']}"
            raise RegistryError(place.registry, place.repository, reason, "Check the proxy or mirror before it")
    _unpack(folder / _SMALL, folder)
    return Order.decode((folder / _ORDER).read_bytes())


def require_portable(job: Job) -> None:
    """Check that a build can be sent away.

    Raises:
        SpecError: When it takes other builds into its image, or a key that must not leave this machine.
    """
    model, problems = job.model, list[Problem]()
    if model.layout.ensemble is not None or job.build in model.layout.numbers.values():
        reason = "puts several builds into one image, which a Job does not: it is sent one build"
        problems.append(Problem("layout", None, reason, "write `builder: local`, or give each build an image of its own"))
    if model.bake.sign is not None and not model.bake.sign.key.startswith(_VARIABLE):
        reason = "is a file of this machine, and a private key is not sent through a registry"
        fix = "write `key: env://NAME`, with a Secret that has NAME in `builder.secrets`"
        problems.append(Problem("bake.sign.key", model.bake.sign.key, reason, fix))
    if _is_file(model.bake.base_key) and not (job.folder / model.bake.base_key).resolve().is_relative_to(job.folder.resolve()):
        reason, fix = "lies outside of the model's folder", "put the public key beside the model's YAML file"
        problems.append(Problem("bake.base_key", model.bake.base_key, reason, fix))
    if problems:
        raise SpecError(problems)


def _is_file(key: str) -> bool:
    return bool(key) and not key.startswith(_VARIABLE) and "BEGIN PUBLIC KEY" not in key


class _Packed:
    """The files of a build by their place in the context, and the model's spec with those places.

    Attributes:
        large: Files that are sent each on its own, such as weights: unchanged ones are not sent again.
        small: The others, which go as one archive: hundreds of samples would be hundreds of requests.
    """

    def __init__(self, job: Job) -> None:
        self.large: dict[str, File] = {}
        self.small: dict[str, Path] = {}
        self._changes: dict[str, Any] = {}
        self._job = job
        self._build: dict[str, Any] = plain(job.spec)
        require_portable(job)
        self._pack_source()
        self._pack_code()
        self._pack_samples()

    def model(self) -> ModelSpec:
        """Return the model, with this one build."""
        return ModelSpec.parse({**plain(self._job.model), **self._changes, "builds": {self._job.build: self._build}})

    def _pack_source(self) -> None:
        source, folder = self._job.model.source, self._job.folder
        if source.package is not None:
            root = package_folder(source.package, "source.package")
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    self.small[f"{PACKAGES}/{source.package}/{path.relative_to(root).as_posix()}"] = path
            return
        if source.file is None:
            return
        place = locate(source, folder)
        if place.is_file() and is_archive(place.name):
            self.large[f"source/{place.name}"] = File(place)
            self._changes["source"] = {**plain(source), "file": f"source/{place.name}"}
            return
        files = resolve(source, folder)
        whole = files.entry.name if files.entry.is_dir() else ""
        for name, path in files.files.items():
            self.large[str(PurePosixPath("source", whole, name))] = File(path)
        entry = PurePosixPath("source", whole or files.entry.relative_to(files.root).as_posix())
        # Its digest was checked here; the context's own holds from now on.
        changes = {"file": str(entry), "path": None, "sha256": None, "format": format_of(source, folder)}
        self._changes["source"] = {**plain(source), **changes}

    def _pack_code(self) -> None:
        code = io_path(self._job.model.io, self._job.folder)
        if code is not None:
            self.small[f"io/{code.name}"] = code
            self._changes["io"] = f"io/{code.name}"
        factory = self._job.model.export.factory
        file, _, function = (factory or "").rpartition(":")
        if file.endswith(".py"):
            path = (self._job.folder / file).resolve()
            self.small[f"export/{path.name}"] = path
            self._changes["export"] = {**plain(self._job.model.export), "factory": f"export/{path.name}:{function}"}

        base_key = self._job.model.bake.base_key
        if _is_file(base_key):
            # Under its own name, which is part of the image's key.
            self.small[base_key] = self._job.folder / base_key

    def _pack_samples(self) -> None:
        """Name each file by a folder of its own, in order: what is picked, and in which order, is the same there as here."""
        samples = self._job.samples
        verify = plain(self._job.model.verify)
        self._changes["verify"] = {**verify, "inputs": self._folders("verify", samples.verify) or None}
        if self._job.spec.calibrate is not None:
            inputs = self._folders("calibrate", samples.calibrate)
            self._build["calibrate"] = {**plain(self._job.spec.calibrate), "inputs": inputs}

    def _folders(self, use: str, files: Sequence[Path]) -> list[dict[str, str]]:
        folders = [f"samples/{use}/{number:05}" for number in range(len(files))]
        self.small |= {f"{folder}/{file.name}": file for folder, file in zip(folders, files, strict=True)}
        return [{"folder": folder} for folder in folders]


def _given(value: Any) -> Any:
    """Leave out what says nothing: a field that is not given and one that is null are the same."""
    if isinstance(value, dict):
        return {name: _given(item) for name, item in cast("dict[str, Any]", value).items() if item is not None}
    return [_given(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


@contextmanager
def _tar(files: Mapping[str, Path]) -> Generator[Path]:
    """Yield an archive that is the same for the same files."""
    layer = Layer({f"/{name}": File(path) for name, path in files.items()})
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
