"""Are the cluster's ports free? Asked before anything is changed."""

import errno
import os
import socket
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import LOOPBACK, PORTS, Port

_ENDING_SECONDS: Final = 30.0
"""How long a process that is being ended may take to let its port go; with every processor busy that is seconds."""
_QUIET_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.1

_LISTEN: Final = "0A"
"""The state of a listening socket in /proc/net/tcp (``TCP_LISTEN`` of the kernel's include/net/tcp_states.h)."""


@dataclass(frozen=True)
class Holder:
    """The process that listens on a port.

    Attributes:
        pid: its id; 0 where it cannot be seen, such as one that is closing its files as it ends.
        name: its name.
        ends: whether it is ending: its memory is gone, and its sockets are not yet.
    """

    pid: int = 0
    name: str = "a process that cannot be seen"
    ends: bool = True

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else self.name


def check_free(
    ports: Sequence[Port] = PORTS, *, ours: Container[int] = (), progress: Callable[[str], None] = lambda _: None
) -> None:
    """Check that every port can be listened on; one of a process that was just killed is waited for.

    Args:
        ports: the ports.
        ours: ids of processes that may hold them, because they are about to be ended.
        progress: told what is waited for.

    Raises:
        ClusterError: one cannot; it names each such port, the process that holds it, and the fix.
    """
    started, told = time.monotonic(), False
    while taken := _taken(ports, ours):
        waited = time.monotonic() - started
        words = "; ".join(f"{port.number} ({port.owner}), held by {process}" for port, process in taken)
        if waited > _ENDING_SECONDS or not any(process.ends for _, process in taken):
            raise ClusterError(
                "check ports",
                words,
                "the port is in use" if len(taken) == 1 else "these ports are in use",
                "end that process, or run the cluster on another machine and give its kubeconfig",
            )
        if waited > _QUIET_SECONDS and not told:
            progress(f"waiting for a process to end: {words}")
            told = True
        time.sleep(_POLL_SECONDS)


def holder(number: int) -> Holder:
    """Return the process that listens on a TCP port."""
    inodes = _listening_inodes(number)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            # The threads of a process that ends let its files go one by one, the first one first.
            for descriptor in list(folder.glob("fd/*")) or folder.glob("task/*/fd/*"):
                with suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return Holder(
                            int(folder.name), (folder / "comm").read_text().strip(), not (folder / "cmdline").read_bytes()
                        )
    return Holder()


def _taken(ports: Sequence[Port], ours: Container[int]) -> list[tuple[Port, Holder]]:
    held = ((port, holder(port.number)) for port in ports if not _is_free(port))
    return [(port, process) for port, process in held if process.pid not in ours]


def _is_free(port: Port) -> bool:
    # The bridge and its address exist only later: then the wildcard address tells whether anybody holds the port.
    for address in (port.address, IPv4Address(0)) if port.address != LOOPBACK else (LOOPBACK,):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((str(address), port.number))
                probe.listen(1)  # with SO_REUSEADDR two may bind, but only one may listen
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    continue
                return False
    return True


def _listening_inodes(number: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == number:
                    found.add(f"socket:[{fields[9]}]")
    return found


def is_root() -> bool:
    """Return whether this process may change the machine."""
    return os.geteuid() == 0
