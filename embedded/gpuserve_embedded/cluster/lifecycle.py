"""Starting and stopping the cluster."""

import fcntl
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Final

from gpuserve_embedded import tools
from gpuserve_embedded.cluster import (
    addons,
    cgroups,
    cleanup,
    containerd,
    control_plane,
    forwarding,
    network,
    node,
    packages,
    pki,
    ports,
    processes,
    registry,
)
from gpuserve_embedded.cluster.api import Api, Manifest, wait_until
from gpuserve_embedded.cluster.crds import BEFORE_GATEWAY, INSTALLED, definitions
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.images import PAUSE, SYSTEM_IMAGES, ensure_images
from gpuserve_embedded.cluster.layout import LOCK, LOGS, registry_data
from gpuserve_embedded.cluster.status import daemons_serve

Progress = Callable[[str], None]
"""Is told, in a few words, what begins now."""

_PROGRAMS: Final = (
    "kube",
    *containerd.PROGRAMS,
    *dict.fromkeys(image.program for image in SYSTEM_IMAGES if image.program != "kube"),
)
_READY_TIMEOUT_SECONDS: Final = 180.0


def check(progress: Progress = lambda _: None) -> None:
    """Refuse what cannot work, before minutes are spent on it: another user than root, a port that somebody holds.

    Args:
        progress: told when a process that was just killed still holds a port, which is waited for.

    Raises:
        ClusterError: the user is not root, this machine is a container that may not change its kernel's settings, or a port or
            an address that the cluster needs is in use.
    """
    _require_root("start the cluster")
    if not daemons_serve():
        _require_machine(progress)


def install(progress: Progress = lambda _: None, *, for_tests: bool = False) -> list[str]:
    """Install the distribution's packages that the cluster needs.

    Args:
        progress: told about each step as it begins.
        for_tests: those too that only tests need, where the distribution has them.

    Returns:
        The tests' packages that it lacks.

    Raises:
        ClusterError: the user is not root, or a package of the cluster cannot be installed.
    """
    _require_root("install packages")
    with _alone():
        packages.install(progress)
        return packages.install_for_tests(progress) if for_tests else []


def prepare(progress: Progress = lambda _: None) -> None:
    """Get the cluster's programs and definitions, which on a bare machine takes minutes the first time.

    Raises:
        ToolError: a program can neither be found nor built.
    """
    _gather(progress)


def start(progress: Progress = lambda _: None) -> None:
    """Start the cluster, or do nothing where it runs and is ready.

    What an earlier run left half-done or dead is removed first. Nothing is changed before the checks have passed.

    Args:
        progress: told about each step as it begins.

    Raises:
        ClusterError: a step failed; it says which, why, and what to do. What was started stays for a look at it, and the
            next start or stop removes it.
        ToolError: a program can neither be found nor built.
        RegistryError: the local registry refused an image.
    """
    _require_root("start the cluster")
    with _alone():
        if daemons_serve():
            forwarding.accept()  # a firewall that came after the cluster, such as Docker's, cuts its pods off
            if addons.wanting(Api()) is not None:
                progress("completing the cluster that runs")
                parts = _gather(progress)
                _install(parts.definitions, lambda: ensure_images(parts.programs, progress))
                _wait_ready(progress)
            return
        _require_machine(progress)
        packages.install(progress)
        parts = _gather(progress)
        if cleanup.leftovers():
            progress("removing what an earlier cluster left")
            cleanup.remove_everything()
        _start_anew(parts, progress)


def stop(*, purge: bool = False) -> None:
    """Remove the cluster: processes, containers, mounts, interfaces, rules, settings, state. Caches are kept.

    Args:
        purge: remove the registry's data too.

    Raises:
        ClusterError: something would not go; it names it.
    """
    _require_root("stop the cluster")
    with _alone():
        cleanup.remove_everything()
        if purge and registry_data().exists():
            rmtree(registry_data())


@dataclass(frozen=True)
class _Parts:
    """What a cluster is made of, got before anything is changed: it may take minutes, or fail."""

    programs: dict[str, Path]
    definitions: dict[str, list[Manifest]]


def _gather(progress: Progress) -> _Parts:
    return _Parts(
        tools.ensure_all(_PROGRAMS, progress),
        {name: definitions(name, tools.crds) for name in INSTALLED},
    )


def _start_anew(parts: _Parts, progress: Progress) -> None:
    progress("preparing the network, certificates and control groups")
    network.remember_settings()
    cgroups.create()
    network.create()
    pki.create()
    registry.configure()
    node.configure()
    progress("starting the control plane, the registry and the container runtime")
    kube = parts.programs["kube"]
    with ThreadPoolExecutor() as pool:
        runtime = pool.submit(_start_runtime, parts.programs, progress)
        _start_control_plane(kube)
        progress("starting the node and installing the system's pods")
        installed = pool.submit(_install, parts.definitions, runtime.result)
        runtime.result()
        _serve(node.kubelet(kube), node.kube_proxy(kube))
        installed.result()
    _wait_ready(progress)


def _start_control_plane(kube: Path) -> None:
    _serve(control_plane.etcd())
    _serve(control_plane.api_server(kube))
    for daemon in (control_plane.controller_manager(kube), control_plane.scheduler(kube)):
        processes.start(daemon)


def _start_runtime(programs: Mapping[str, Path], progress: Progress) -> dict[str, str]:
    _serve(*registry.daemons())
    images = ensure_images(programs, progress)
    containerd.configure(programs, images[PAUSE.repository])
    _serve(containerd.daemon())
    # Unpacked while the API server starts, not when their pods are waited for.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for pulled in [pool.submit(containerd.pull, image) for image in images.values()]:
            pulled.result()
    return images


def _install(definitions: Mapping[str, Sequence[Manifest]], images: Callable[[], Mapping[str, str]]) -> None:
    with ThreadPoolExecutor() as pool:

        def define(names: Iterable[str]) -> list[Future[None]]:
            return [pool.submit(Api().apply, definitions[name]) for name in names]

        for defined in define(BEFORE_GATEWAY):
            defined.result()
        Api().apply(addons.manifests(images()))
        # The API server takes its time over large definitions, and nothing waits for these.
        for defined in define(name for name in definitions if name not in BEFORE_GATEWAY):
            defined.result()


def _wait_ready(progress: Progress) -> None:
    progress("waiting for the system's pods")
    api = Api()
    wait_until(
        "wait for the cluster",
        lambda: addons.wanting(api) or (None if api.describes_itself() else "the API server's description of its objects"),
        timeout_seconds=_READY_TIMEOUT_SECONDS,
        fix=f"see the logs in {LOGS}; running the same command again goes on from here",
    )


def _serve(*daemons: processes.Daemon) -> None:
    for daemon in daemons:
        processes.start(daemon)
    for daemon in daemons:
        processes.wait_healthy(daemon)


def _require_root(step: str) -> None:
    if not ports.is_root():
        raise ClusterError(
            step,
            "this user",
            "containers, bridges and mounts need root",
            "run it as root, or give the kubeconfig of a cluster that exists",
        )


def _require_machine(progress: Progress) -> None:
    _require_writable()
    ports.check_free(ours=cgroups.processes(), progress=progress)
    network.check_free()


def _require_writable() -> None:
    groups = cgroups.hierarchies()
    refused = [path for path in (*groups, network.FORWARDING) if not os.access(path, os.W_OK)]
    if refused or not groups:
        raise ClusterError(
            "check the machine",
            refused[0] if refused else "/sys/fs/cgroup",
            "root may not write there, as in an ordinary container" if refused else "no control groups are mounted",
            "run it on a machine of its own or in a privileged container with its own control groups "
            "(`docker run --privileged --cgroupns=private`), or give the kubeconfig of a cluster that exists",
        )


@contextmanager
def _alone() -> Generator[None]:
    """Keep two starts or stops apart; the lock goes with the process that holds it, however it ends."""
    with os.fdopen(os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ClusterError(
                "start or stop the cluster",
                LOCK,
                "another start or stop is at work",
                "wait for it to end, then run the same command again",
            ) from error
        yield
