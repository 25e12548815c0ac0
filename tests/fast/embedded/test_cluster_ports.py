"""A port that is taken is told with the process that holds it, before anything is changed."""

import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpuserve_embedded.cluster import ports
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import NODE_IP, PORTS, Port

ANY_ADDRESS = str(ipaddress.IPv4Address(0))


@pytest.fixture(params=["127.0.0.1", ANY_ADDRESS])
def taken(request):
    with socket.socket() as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_free_ports_pass() -> None:
    ports.check_free([Port(free_port(), "registry")])


def test_a_taken_port_names_port_owner_holder_and_fix(taken) -> None:
    with pytest.raises(ClusterError) as caught:
        ports.check_free([Port(taken, "registry")])
    message = str(caught.value)
    assert f"{taken} (registry)" in message
    assert f"(pid {os.getpid()})" in message
    assert "fix: end that process" in message


def test_all_taken_ports_are_named_at_once(taken) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            ports.check_free([Port(taken, "registry"), Port(number, "etcd")])
    assert f"{taken} (registry)" in str(caught.value)
    assert f"{number} (etcd)" in str(caught.value)


def test_a_port_held_by_the_cluster_itself_is_no_obstacle(taken) -> None:
    ports.check_free([Port(taken, "registry")], ours={os.getpid()})


ENDING = """
import ctypes, os, socket, sys, threading, time

def serve(listener):
    time.sleep(float(sys.argv[1]))
    listener.close()
    os._exit(0)

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=[listener]).start()
print(listener.getsockname()[1], flush=True)
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit(2): of this thread alone
"""


@pytest.fixture
def ending():
    """A process as the kernel leaves it while it ends: its first thread is gone, with its memory, and another one has a port."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float) -> tuple[int, int]:
        process = subprocess.Popen([sys.executable, "-c", ENDING, str(seconds)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        port = int(process.stdout.readline())
        while Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        return process.pid, port

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_that_ends_is_waited_for(ending, monkeypatch) -> None:
    monkeypatch.setattr(ports, "_QUIET_SECONDS", 0.1)
    pid, port = ending(0.4)
    told: list[str] = []
    ports.check_free([Port(port, "kube-apiserver")], progress=told.append)
    assert told == [f"waiting for a process to end: {port} (kube-apiserver), held by python (pid {pid})"]


def test_a_process_that_never_ends_is_named(ending, monkeypatch) -> None:
    monkeypatch.setattr(ports, "_ENDING_SECONDS", 0.2)
    pid, port = ending(60)
    with pytest.raises(ClusterError, match=rf"held by .*\(pid {pid}\)"):
        ports.check_free([Port(port, "kube-apiserver")])


def test_a_port_that_nobody_seems_to_hold_is_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(ports, "holder", lambda _: ports.Holder())  # while the kernel closes the files of a process that ends
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        end = threading.Timer(0.3, listener.close)
        end.start()
        ports.check_free([Port(listener.getsockname()[1], "kube-apiserver")])
        end.join()


def test_a_port_for_the_bridge_is_checked_before_the_bridge_exists() -> None:
    with socket.socket() as listener:
        listener.bind((ANY_ADDRESS, 0))
        listener.listen()
        number = listener.getsockname()[1]
        with pytest.raises(ClusterError, match=str(number)):
            ports.check_free([Port(number, "kube-apiserver", NODE_IP)])


def test_no_two_programs_of_the_cluster_want_one_port() -> None:
    places = [(port.number, port.address) for port in PORTS]
    assert len(places) == len(set(places))
