"""One cluster for all end-to-end tests, brought up and taken down by the commands that `make up` and `make down` run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_cluster import ROOT, Cluster, wait_for
from e2e_machine import Machine
from e2e_stack import Stack, Workshop, command

from gpuserve_embedded.run import environment

UP_SECONDS = 3 * 3600
"""On a machine with nothing cached the tools are built first."""

TEST_SECONDS = 900
"""For a test without its fixtures: the first one's brings everything up."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests after the quick ones; those that need a cluster of their own come before the shared one is up."""
    for item in items:
        if item.get_closest_marker("e2e") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: containers, bridges and mounts"))
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, str]:
    if not item.path.is_relative_to(Path(__file__).parent):
        return (0, "")
    shares_the_stack = item.path.name.removeprefix("test_")[0].isdigit()
    return (2, item.path.name) if shares_the_stack else (1, item.path.name)


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
