"""What is on a machine, read without any help of the code that is tested.

Other tests may run beside the cluster's, in another process of pytest-xdist. What they have running and mounted is left out: they end it.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e_cluster import run

from gpuserve_embedded.cluster import leftovers
from gpuserve_embedded.cluster.layout import PORTS, cache_folder

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""

PROGRAMS = frozenset(
    [
        "kube",
        "kubelet",
        "kube-proxy",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "etcd",
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v2",
        "docker-registry",
        "traefik",
        "prometheus",
        "prometheus-adapter",
        "adapter",
        "coredns",
        "simulated-gpus",
        "pause",
        "tritonserver",
        "pulumi",
        "pulumi-resource-kubernetes",
    ]
)
"""What the cluster runs, as daemons and in pods, and Pulumi's engine."""

BUILDERS = frozenset(["buildah", "buildah-chroot-runtime", "buildah-chroot-exec", "mmdebstrap", "go", "apt-get"])
"""What builds tools and images, and installs packages. Those that the tests began: people build on their machines meanwhile."""

SCRIPTS = ("gpuserve_embedded.language_host", "language_host/program.py", "language_host/dynamic_provider.py")
"""What runs in Python on the engine's behalf: its arguments end so."""

BESIDE = (f"{cache_folder()}/buildah/", *(f"{tempfile.gettempdir()}/{name}" for name in ("mmdebstrap.", "pytest-of-")))
"""Where builds of images mount what they build in. That they unmount it is tested where they are: test_bake.py."""


@dataclass(frozen=True)
class Machine:
    """Everything that a cluster may leave behind, by kind."""

    found: dict[str, frozenset[str] | frozenset[int]]

    @classmethod
    def now(cls) -> "Machine":
        return cls(
            {
                "processes": frozenset(_processes()),
                "mounts": frozenset(mounts()),
                "interfaces": frozenset(path.name for path in Path("/sys/class/net").iterdir()),
                "network namespaces": frozenset(_names(Path("/run/netns")) | _names(Path("/var/run/netns"))),
                "control groups": frozenset(_control_groups()),
                "nftables tables": frozenset(run(["nft", "list", "tables"]).stdout.splitlines() if _has_nft() else ()),
                "iptables rules": frozenset(_iptables()),
                "ports": frozenset(_listening() & {port.number for port in PORTS}),
                "routes": frozenset(Path("/proc/net/route").read_text().splitlines()),
            }
        )

    def assert_nothing_left(self) -> None:
        """Fail with everything that is here now and was not then, and with what the cluster's own check finds."""
        left = self._left()
        assert left == {}, left
        assert leftovers() == [], leftovers()

    def _left(self) -> dict[str, list[str] | list[int]]:
        now = Machine.now()
        left = {kind: sorted(now.found[kind] - before) for kind, before in self.found.items()}
        return {kind: found for kind, found in left.items() if found}


def mounts() -> set[str]:
    """Return the places where something is mounted."""
    places = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return {place for place in places if not place.startswith(BESIDE)}


def _processes() -> set[str]:
    found: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            worker, ours = _worker((folder / "environ").read_bytes()), os.environ.get("PYTEST_XDIST_WORKER")
            if worker not in (None, ours):
                continue
            words = (folder / "cmdline").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        name = Path(words[0].decode(errors="replace")).name
        name = Path(words[1].decode(errors="replace")).name if name == "perl" and len(words) > 1 else name  # mmdebstrap
        scripts = [word for word in (part.decode(errors="replace") for part in words) if word.endswith(SCRIPTS)]
        if (name in PROGRAMS or (name in BUILDERS and worker == ours) or scripts) and state != "Z":
            found.add(f"{folder.name} {name} {' '.join(scripts)}".rstrip())
    return found


def _worker(environment: bytes) -> str | None:
    """Return the name of the test process that began this one, from which it has its environment."""
    found = [part for part in environment.split(b"\0") if part.startswith(b"PYTEST_XDIST_WORKER=")]
    return found[0].partition(b"=")[2].decode() if found else None


def _control_groups() -> set[str]:
    """Return the groups that may be the cluster's: of ours, of the kubelet and of containerd."""
    root = Path("/sys/fs/cgroup")
    patterns = ("*gpuserve*", "*kubepods*", "*k8s.io*")
    return {str(path) for depth in ("", "*/") for pattern in patterns for path in root.glob(depth + pattern)}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _has_nft() -> bool:
    return any(Path(folder, "nft").exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin"))


def _iptables() -> list[str]:
    for program in ("/usr/sbin/iptables-save", "/sbin/iptables-save"):
        if Path(program).exists():
            return [line for line in run([program]).stdout.splitlines() if line.startswith("-A")]
    return []


def _listening() -> set[int]:
    """Return the TCP ports that are listened on, by the kernel's own table: a connect may be answered by a proxy on the way."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN}
