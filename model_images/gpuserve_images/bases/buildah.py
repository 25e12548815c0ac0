"""One build with buildah in a store of its own, pushed to a registry and cleaned away."""

import json
import os
import shutil
from pathlib import Path

from gpuserve_images.bases.commands import Report, run, silent
from gpuserve_images.bases.host import apt_settings, certificates, nvidia_index, pip_settings
from gpuserve_images.mounts import mount_points
from gpuserve_images.oci.reference import Reference, is_loopback

_INSECURE_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


def build(folder: Path, reference: str, *, work: Path, report: Report, target: str = "") -> None:
    """Build a folder's Dockerfile and push the image.

    Args:
        folder: Build context with a `Dockerfile`.
        reference: Where to push; its registry is asked first for Docker Hub's images.
        work: Folder for buildah's store and settings; emptied before and after, so that a killed build leaves nothing to trip over.
        report: Called with each line of output.
        target: Stage to stop at. Default: the last one.

    Raises:
        BaseImageError: buildah is missing or failed; with the last lines it wrote.
    """
    store = ["--root", str(work / "root"), "--runroot", str(work / "run")]
    _clear(work)
    work.mkdir(parents=True)
    registry = Reference.parse(reference).registry
    settings = _write_settings(work, registry)
    # Where it mounts what it builds; else that lies in /var/tmp when it is killed.
    (work / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(work / "tmp")}
    secure = not is_loopback(registry)
    tls = [f"--tls-verify={str(secure).lower()}", "--signature-policy", str(settings["policy"])]
    secrets = [f"--secret=id={name},src={settings[name]}" for name in ("apt", "pip", "nvidia_index", "ca") if name in settings]
    try:
        command = ["buildah", *store, "--registries-conf", str(settings["registries"]), "bud", "--isolation", "chroot"]
        command += ["--target", target] if target else []
        command += ["--network", "host", "--format", "oci", *tls, *secrets, "--tag", reference, str(folder)]
        run(command, what=f"base image {folder.name}", report=report, env=environment)
        push = ["buildah", *store, "push", *tls, reference, f"docker://{reference}"]
        run(push, what=f"base image {folder.name}", report=report, env=environment)
    finally:
        _clear(work)


def _write_settings(work: Path, mirror: str) -> dict[str, Path]:
    """Write what buildah reads; the machine's package settings go in as build secrets, which stay out of the image."""
    insecure = str(is_loopback(mirror)).lower()
    texts = {
        "registries": (
            'unqualified-search-registries = ["docker.io"]\n'
            '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
            f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = {insecure}\n'
        ),
        "policy": json.dumps(_INSECURE_POLICY),
        "apt": apt_settings(),
        "pip": pip_settings(),
        "nvidia_index": nvidia_index(),
    }
    paths = {name: work / name for name in texts}
    for name, path in paths.items():
        path.touch(mode=0o600)
        path.write_text(texts[name])
    authorities = certificates()
    return {**paths, "ca": authorities} if authorities else paths


def _clear(work: Path) -> None:
    """Unmount and remove everything, whatever state a killed build left its store in."""
    if not work.exists():
        return
    for place in reversed([place for place in mount_points() if place.is_relative_to(work)]):
        run(["umount", "--lazy", str(place)], what="clearing buildah's store", report=silent)
    shutil.rmtree(work)
