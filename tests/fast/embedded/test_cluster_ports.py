"""A port that is taken is told with the process that holds it, before anything is changed."""

import ipaddress
import os
import socket

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
