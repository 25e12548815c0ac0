"""Removing everything of the cluster, in whatever state it was left, and saying what is still there."""

import shutil
from collections.abc import Callable  # noqa: TC003 - stands in an annotation that mypy needs
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster import cgroups, forwarding, image_builds, mounted, network, packages, processes
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import (
    CNI_RESULTS,
    CONTAINER_LOG_LINKS,
    DEVICE_PLUGINS,
    RUN,
    STATE,
)

_OUR_DEVICE_SOCKETS: Final = "gpuserve-*.sock"
_KUBELET_DEVICE_FILES: Final = ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION")

_SHARED_FOLDERS: Final = (
    DEVICE_PLUGINS,
    DEVICE_PLUGINS.parent,
    CONTAINER_LOG_LINKS,
    CNI_RESULTS,
    CNI_RESULTS.parent,
)
"""Folders that other programs may use too: removed where the cluster leaves them empty."""


def remove_everything() -> None:
    """Stop and remove all that is there, gently where order matters and surely everywhere.

    The order: the kubelet first, that it restarts nothing; every other process; what they held (mounts, sockets, links,
    rules, also a killed image build's); the settings as they were; the state last, because it holds what the earlier steps need to know.

    Raises:
        ClusterError: something would not go; it names it.
    """
    processes.stop("kubelet")
    processes.stop("registry")  # its data is kept, so it may finish what it writes
    stubborn = cgroups.kill_all()
    if stubborn:
        raise _stuck("processes that would not end", stubborn)
    for stuck in (mounted.unmount(RUN, STATE), image_builds.remove()):
        if stuck:
            raise _stuck("mounts or processes that would not go", [str(one) for one in stuck])
    network.remove()
    network.restore_settings()
    cgroups.remove()
    for path in (*_shared_leftovers(), *packages.refusal()):
        path.unlink(missing_ok=True)
    for folder in _SHARED_FOLDERS:
        with suppress(OSError):  # absent, or somebody else's files are in it
            folder.rmdir()
    for folder in (RUN, STATE):
        _remove_tree(folder)


def leftovers() -> list[str]:
    """Return, in words, everything of the cluster that exists on this machine; empty after a complete stop."""
    checks: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("process", lambda: [f"{pid} {command}" for pid, command in cgroups.processes().items()]),
        ("mount", lambda: [str(path) for path in mounts()]),
        ("network interface", network.links),
        ("forwarding rule", lambda: [" ".join(rule) for rule in forwarding.rules()]),
        ("nftables table", lambda: [f"{family} {table}" for family, table in network.tables()]),
        ("control group", lambda: [str(path) for path in cgroups.groups()]),
        ("file", lambda: [str(path) for path in (*_shared_leftovers(), *packages.refusal())]),
        ("folder", lambda: [str(folder) for folder in (RUN, STATE) if mounted.is_used(folder)]),
        ("image build", image_builds.left),
    )
    return [f"{kind}: {found}" for kind, find in checks for found in find()]


def mounts() -> list[Path]:
    """Return the mount points below the cluster's folders, the deepest last."""
    return mounted.below(RUN, STATE)


def _shared_leftovers() -> list[Path]:
    """Return the cluster's files in folders whose place is fixed in other programs' source."""
    links = [link for link in _files(CONTAINER_LOG_LINKS) if link.is_symlink() and link.readlink().is_relative_to(STATE)]
    # A result names the network namespace that it is about, and those of the cluster lie in its own folder.
    results = [result for result in _files(CNI_RESULTS) if str(RUN) in _text(result)]
    return [*links, *results, *_device_files()]


def _device_files() -> list[Path]:
    sockets = [path for path in _files(DEVICE_PLUGINS) if path.suffix == ".sock"]
    ours = [path for path in sockets if path.match(_OUR_DEVICE_SOCKETS)]
    others = set(sockets) - set(ours) - {DEVICE_PLUGINS / "kubelet.sock"}
    # Any Kubernetes has a kubelet: its files are our kubelet's where our cluster is, and no other plugin ever registered.
    if others or not mounted.is_used(STATE):
        return ours
    return [*ours, *(path for path in _files(DEVICE_PLUGINS) if path.name in _KUBELET_DEVICE_FILES)]


def _files(folder: Path) -> list[Path]:
    """Return what lies in a folder: nothing where it is absent, or where this user may not look."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return sorted(folder.iterdir())
    return []


def _text(file: Path) -> str:
    with suppress(PermissionError):
        return file.read_text(errors="replace")
    return ""


def _remove_tree(folder: Path) -> None:
    """Remove a folder; one that its user has given a place of its own is emptied."""
    try:
        if not mounted.is_lent(folder):
            if folder.exists():
                shutil.rmtree(folder)
            return
        for path in mounted.contents(folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise _stuck("files that would not go", [f"{error.filename}: {error.strerror}"]) from error


def _stuck(reason: str, what: list[str]) -> ClusterError:
    return ClusterError(
        "stop the cluster",
        "; ".join(what),
        reason,
        "run the same command again; a process that waits for a dead disk ends only with the machine",
    )
