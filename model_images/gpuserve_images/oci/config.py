"""Image configurations and manifests, as plain data (OCI image specification 1.1)."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuserve_images.errors import ImageError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = frozenset({INDEX, DOCKER_INDEX})

# A fixed time keeps the digest the same on any day; registries and engines accept it.
CREATED = "1970-01-01T00:00:00Z"
_AUTHOR = "gpuserve"

# Docker's media types name the same bytes as OCI's; one manifest must not mix the two families.
_OCI_LAYERS = {
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{LAYER}+zstd",
}

Json = dict[str, Any]


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image starts; None keeps what the base says.

    Attributes:
        entrypoint: Program and its fixed arguments.
        cmd: Default arguments after the entry point.
        env: Environment variables, added to (and winning over) the base's.
        user: `uid[:gid]` or a name in the image's /etc/passwd.
        working_dir: Directory the program starts in.
        labels: Labels, added to the base's.
        instead_of_root: User of a container whose image would otherwise run as root.
    """

    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    env: Mapping[str, str] | None = None
    user: str | None = None
    working_dir: str | None = None
    labels: Mapping[str, str] | None = None
    instead_of_root: str | None = None


def encode(value: Json) -> bytes:
    """Return canonical JSON: equal values give equal bytes, hence equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(content: bytes) -> str:
    """Return the content's digest as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, digest: str, size: int) -> Json:
    """Return an OCI content descriptor."""
    return {"mediaType": media_type, "digest": digest, "size": size}


def oci_layers(manifest: Json) -> list[Json]:
    """Return the layers of a manifest with OCI media types, whatever family it was written in."""
    return [{**layer, "mediaType": _OCI_LAYERS.get(layer["mediaType"], layer["mediaType"])} for layer in manifest["layers"]]


def scratch_config(platform: str) -> Json:
    """Return the configuration of an image without any layer, for a platform such as `linux/amd64` or `linux/arm64/v8`.

    Raises:
        ImageError: The platform is not of that form.
    """
    named: Json = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    if "/".join(named.values()) != platform or "architecture" not in named or not all(named.values()):
        reason = "it is not of the form system/architecture[/variant]"
        raise ImageError("platform", reason, "Write for example linux/amd64", value=repr(platform))
    return _without_layers(named)


def unplaced_config() -> Json:
    """Return the same of an image that runs nowhere, such as a signature, as cosign writes it."""
    return _without_layers({"architecture": "", "os": ""})


def _without_layers(platform: Json) -> Json:
    return {
        **platform,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }


def derive_config(base: Json, changes: ImageConfig, diff_ids: Sequence[str], comments: Sequence[str]) -> Json:
    """Return the configuration of the base plus new layers.

    Args:
        base: Configuration of the base image.
        changes: What the new image changes.
        diff_ids: Digests of the new layers' uncompressed tars, lowest first.
        comments: One history comment per new layer.
    """
    config = copy.deepcopy(base)
    config["created"] = CREATED
    inner: Json = dict(config.get("config") or {})
    config["config"] = inner
    if changes.entrypoint is not None:
        inner["Entrypoint"] = list(changes.entrypoint)
        # The base's default arguments belong to its own entry point: engines drop them in the same case.
        inner.pop("Cmd", None)
    if changes.cmd is not None:
        inner["Cmd"] = list(changes.cmd)
    if changes.env is not None:
        inner["Env"] = _merged_env(inner.get("Env") or [], changes.env)
    if changes.user is not None:
        inner["User"] = changes.user
    elif changes.instead_of_root is not None and _is_root(str(inner.get("User") or "")):
        inner["User"] = changes.instead_of_root
    if changes.working_dir is not None:
        inner["WorkingDir"] = changes.working_dir
    if changes.labels is not None:
        inner["Labels"] = {**(inner.get("Labels") or {}), **changes.labels}
    config["history"] = [*_complete_history(config), *(_history(comment) for comment in comments)]
    config["rootfs"] = {"type": "layers", "diff_ids": [*config["rootfs"]["diff_ids"], *diff_ids]}
    return config


def image_manifest(config: Json, layers: Sequence[Json], annotations: Mapping[str, str]) -> Json:
    """Return an image manifest over descriptors."""
    manifest: Json = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers)}
    if annotations:
        manifest["annotations"] = dict(annotations)
    return manifest


def image_index(entries: Sequence[Json], annotations: Mapping[str, str]) -> Json:
    """Return an index over descriptors of manifests."""
    index: Json = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
    if annotations:
        index["annotations"] = dict(annotations)
    return index


def _is_root(user: str) -> bool:
    return user.split(":", 1)[0] in {"", "0", "root"}


def _merged_env(base: Sequence[str], changes: Mapping[str, str]) -> list[str]:
    # A name alone is no variable by the specification, and yet some images have one: it stays as it is.
    merged = {entry.split("=", 1)[0]: entry for entry in base} | {name: f"{name}={value}" for name, value in changes.items()}
    return list(merged.values())


def _complete_history(config: Json) -> list[Json]:
    """Return the base's history with one entry per layer: tools such as buildah refuse an image that has fewer."""
    history: list[Json] = list(config.get("history") or [])
    filled = sum(not entry.get("empty_layer", False) for entry in history)
    missing = len(config["rootfs"]["diff_ids"]) - filled
    return [*history, *(_history("base layer") for _ in range(missing))]


def _history(comment: str) -> Json:
    return {"created": CREATED, "created_by": _AUTHOR, **({"comment": comment} if comment else {})}
