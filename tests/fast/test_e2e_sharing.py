"""The cluster's tests run in one process alone, whatever xdist was asked for, and in `make test` they are the first to begin."""

from types import SimpleNamespace
from typing import Any

import pytest
from e2e_sharing import SHARED_OUT, ClusterBesideTheRest, several_have_the_cluster

QUICK = [f"tests/fast/test_units.py::test_{number}" for number in range(9)]
SERVERS = ["tests/servers/test_triton.py::test_a", "tests/e2e/test_bake.py::test_b"]
CHAIN = [f"tests/e2e/{file}.py::test_c" for file in ("test_cluster_lifecycle", "test_01_answers", "test_13_down")]


class Process:
    """One of xdist's test processes, as its schedulers see them."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.asked_for: list[str] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.asked_for += [(QUICK + SERVERS + CHAIN)[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.mark.parametrize(
    ("worker", "several"),
    [
        ({}, False),
        ({"workercount": 1}, False),
        ({"workercount": 2}, True),
        ({"workercount": 2, SHARED_OUT: False}, True),
        ({"workercount": 2, SHARED_OUT: True}, False),
    ],
)
def test_is_known_by_what_each_process_was_told(worker, several):
    assert several_have_the_cluster(worker) is several


def scheduled(processes: int) -> list[Any]:
    options = SimpleNamespace(getvalue=lambda name: ["popen"] * processes, option=SimpleNamespace(loadscopereorder=True))
    scheduler = ClusterBesideTheRest(options)
    nodes: list[Any] = [Process() for _ in range(processes)]
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, QUICK + SERVERS + CHAIN)
    scheduler.schedule()
    return nodes


def test_the_chain_is_begun_first_and_is_not_divided():
    first, second = scheduled(2)
    assert first.asked_for == CHAIN
    assert second.asked_for == QUICK


def test_no_two_processes_have_a_file_of_it():
    nodes = scheduled(3)
    assert [set(CHAIN) & set(node.asked_for) for node in nodes] == [set(CHAIN), set(), set()]
