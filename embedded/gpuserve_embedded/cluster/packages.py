"""Programs that come from the distribution: Debian 12 and Ubuntu 22.04 or later."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import CNI_PLUGINS
from gpuserve_embedded.cluster.processes import search_path

PACKAGES: Final[dict[str, str | Path]] = {
    "runc": "runc",
    "containernetworking-plugins": CNI_PLUGINS / "bridge",
    "etcd-server": "etcd",
    "docker-registry": "docker-registry",
    "nftables": "nft",
    "iproute2": "ip",
    "mount": "umount",
    "curl": "curl",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
}
"""Package to the program (or file) that it is needed for; `curl` for the example that `make up` prints, the last two build base images."""

FOR_TESTS: Final[dict[str, str | Path]] = {
    "libpython3.11": "libpython3.11.so.1.0",
    "openjdk-17-jre-headless": "java",
}
"""Package to the program or library that only tests need: Triton of its wheel, TorchServe.

Other distributions than Debian 12 lack some of them; the tests of what is missing are skipped there.
"""

FINISHES: Final = "GPUSERVE_FINISHES"
"""Variable of an installation's processes: one that outlives its run is waited for, since a package that was left
half-installed stops every later installation."""

_SERVICES: Final = ("etcd", "docker-registry")
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_REFUSE: Final = "#!/bin/sh\n# Keeps installed services from starting; removed when the installation ends.\nexit 101\n"
_LOG_LINES: Final = 15


def missing(packages: Mapping[str, str | Path] = PACKAGES) -> list[str]:
    """Return the packages whose program, library or file is not on this machine."""
    return [package for package, needed in packages.items() if not _is_here(needed)]


def _is_here(needed: str | Path) -> bool:
    if isinstance(needed, Path):
        return needed.exists()
    return _loads(needed) if ".so" in needed else shutil.which(needed, path=search_path()) is not None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def install(progress: Callable[[str], None]) -> None:
    """Install what is missing, and start none of its services.

    Raises:
        ClusterError: there is no ``apt-get``, or it failed.
    """
    wanted = missing()
    if not wanted:
        return
    progress(f"installing {', '.join(wanted)}")
    if shutil.which("apt-get") is None:
        raise ClusterError(
            "install packages",
            ", ".join(wanted),
            "this is no Debian or Ubuntu: there is no apt-get",
            "install programs of these names yourself, or give a kubeconfig of a cluster that exists",
        )
    with _no_service_starts():
        if _apt("install", *wanted).returncode != 0:  # perhaps only because the package lists are old or absent
            _checked("update package lists", _apt("update"))
            _checked("install packages", _apt("install", *wanted))
    still = missing()
    if still:
        raise ClusterError(
            "install packages",
            ", ".join(still),
            "installed, but the program is not on PATH",
            "add /usr/bin and /usr/sbin to PATH",
        )


def install_for_tests(progress: Callable[[str], None]) -> list[str]:
    """Install what only tests need, as far as this distribution has it.

    Returns:
        The packages that are missing still.
    """
    wanted = missing(FOR_TESTS)
    if wanted and shutil.which("apt-get"):
        progress(f"installing {', '.join(wanted)}")
        with _no_service_starts():
            if _apt("install", *wanted).returncode != 0:
                _apt("update")
                for package in wanted:  # one that this distribution lacks must not keep the others away
                    _apt("install", package)
    return missing(FOR_TESTS)


def refusal() -> list[Path]:
    """Return the file that keeps services from starting, where an installation that was killed left it."""
    return [_POLICY] if _POLICY.exists() and _POLICY.read_text() == _REFUSE else []


@contextmanager
def _no_service_starts() -> Generator[None]:
    """Keep maintainer scripts from starting services, by the means Debian has for it (invoke-rc.d(8), policy-rc.d)."""
    active_before = {service for service in _SERVICES if _systemctl("is-active", service)}
    enabled_before = {service for service in _SERVICES if _systemctl("is-enabled", service)}
    ours = not _POLICY.exists() or _POLICY.read_text() == _REFUSE
    if ours:
        _POLICY.write_text(_REFUSE)
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
        for service in _SERVICES:
            if service not in active_before and _systemctl("is-active", service):
                _systemctl("stop", service)
            # One that the installation enabled would start at the next boot and take the cluster's ports.
            if service not in enabled_before and _systemctl("is-enabled", service):
                _systemctl("disable", service)


def _systemctl(verb: str, service: str) -> bool:
    program = shutil.which("systemctl")
    if program is None:
        return False
    done = subprocess.run([program, "--quiet", verb, service], capture_output=True, check=False)
    return done.returncode == 0


def _apt(verb: str, *packages: str) -> subprocess.CompletedProcess[str]:
    options = ["--yes", "--quiet", "--no-install-recommends"] if verb == "install" else ["--quiet"]
    command = ["/usr/bin/apt-get", *options, verb, *packages]
    # A file, not a pipe: nobody reads a pipe any more once this process was killed, and dpkg would stop in the middle.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", FINISHES: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, output.read(), "")


def _checked(step: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        raise ClusterError(
            step,
            " ".join(done.args),
            f"exit status {done.returncode}",
            "mend what apt-get says, then run the same command again",
            log=done.stdout.splitlines()[-_LOG_LINES:],
        )
