"""One cluster for all end-to-end tests, brought up and taken down by the commands that `make up` and `make down` run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_cluster import ROOT, Cluster, wait_for
from e2e_machine import Machine
from e2e_sharing import SEVERAL, SHARED_OUT, ClusterBesideTheRest, file_of, needs_the_cluster, several_have_the_cluster, turn
from e2e_stack import Stack, Workshop, command, forget_places
from xdist.scheduler import LoadScopeScheduling

from gpuserve_embedded.cluster import leftovers
from gpuserve_embedded.run import environment

UP_SECONDS = 3 * 3600
"""On a machine with nothing cached the tools are built first."""

TEST_SECONDS = 900
"""For a test without its fixtures: the first one's brings everything up."""

_begun: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Share the tests out so with `--dist loadscope`. (xdist's own groups, 3.8, are not seen by pytest 9.2.)"""
    return ClusterBesideTheRest(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each process of a run whose tests are shared out so; those of another run are told nothing."""
    node.workerinput[SHARED_OUT] = node.config.getoption("dist") == "loadscope"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse the cluster's tests where several processes may run them: each would start the machine's one cluster."""
    if needs_the_cluster(item.path) and several_have_the_cluster(getattr(item.config, "workerinput", {})):
        pytest.fail(SEVERAL, pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests after the quick ones; those that need a cluster of their own come before the shared one is up."""
    for item in items:
        if item.get_closest_marker("e2e") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: containers, bridges and mounts"))
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))
    items.sort(key=lambda item: turn(item.path))


def pytest_runtest_logstart(nodeid: str) -> None:
    """Remember that tests of the cluster were begun, also in the process that only shares them out."""
    if needs_the_cluster(file_of(nodeid)):
        _begun.add(nodeid)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the cluster down where the process of its tests could not: after an interrupt, xdist gives it ten seconds."""
    if _begun and not hasattr(config, "workerinput") and leftovers():
        command("down")


@pytest.fixture(scope="session")
def machine() -> Machine:
    """What was on this machine before the cluster was."""
    return Machine.now()


@pytest.fixture(scope="session")
def unprepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that nobody prepared: its content is made here and its name says nothing."""
    file = tmp_path_factory.mktemp("unprepared") / "something"
    rows = [f"measure_{i},{i * 37 % 101},{i * 11 % 13}.5,2026-01-{i % 28 + 1:02}" for i in range(200)]
    file.write_text("name,count,ratio,day\n" + "\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="session")
def stack(machine: Machine, unprepared: Path) -> Iterator[Stack]:
    """The stack `local` on the embedded cluster, up for the session and gone without a trace after it."""
    os.environ.pop("KUBECONFIG", None)  # these tests break things: never on a cluster that somebody else uses
    try:
        up = command("up", "--json", "--file", str(unprepared), timeout=UP_SECONDS)
        assert up.returncode == 0, f"{up.stderr}\n{up.stdout}"
        variables = environment.variables(ROOT)
        yield Stack(json.loads(up.stdout), Cluster(variables), variables)
    finally:
        down = command("down")
        forget_places()
        assert down.returncode == 0, f"{down.stderr}\n{down.stdout}"
        machine.assert_nothing_left()


@pytest.fixture
def quiet(stack: Stack) -> Cluster:
    """The cluster when no rollout and no scaling is under way: one ready pod per version."""
    wait_for("one ready pod per version", stack.cluster.settled, seconds=180, every=2)
    return stack.cluster


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A copy of the checkout in which only `stacks/` is real."""
    return Workshop.below(tmp_path)
