"""Are the cluster's ports free? Asked before anything is changed."""

import errno
import os
import socket
import time
from collections.abc import Container, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import LOOPBACK, PORTS, Port

_UNSEEN: Final = 0
_DYING_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.1

_LISTEN: Final = "0A"
"""The state of a listening socket in /proc/net/tcp (``TCP_LISTEN`` of the kernel's include/net/tcp_states.h)."""


def check_free(ports: Sequence[Port] = PORTS, *, ours: Container[int] = ()) -> None:
    """Check that every port can be listened on.

    Args:
        ports: the ports.
        ours: ids of processes that may hold them, because they are about to be ended.

    Raises:
        ClusterError: one cannot; it names each such port, the process that holds it, and the fix.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while any(not _is_free(port) and holder(port.number)[0] == _UNSEEN for port in ports):
        # A process that was killed a moment ago is gone before its sockets are.
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    taken = [
        f"{port.number} ({port.owner}), held by {name}"
        for port in ports
        if not _is_free(port)
        for pid, name in (holder(port.number),)
        if pid not in ours
    ]
    if taken:
        raise ClusterError(
            "check ports",
            "; ".join(taken),
            "the port is in use" if len(taken) == 1 else "these ports are in use",
            "end that process, or run the cluster on another machine and give its kubeconfig",
        )


def holder(number: int) -> tuple[int, str]:
    """Return the process that listens on a TCP port: its id (0 where it cannot be seen), and ``name (pid 12)``."""
    inodes = _listening_inodes(number)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it ended, or is another user's
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return int(folder.name), f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
    return _UNSEEN, "a process that this user cannot see"


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
