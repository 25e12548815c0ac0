"""How the tests are shared out among processes: one alone has the machine's cluster, from the first test to the last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e_cluster import ROOT
from xdist.scheduler import LoadScopeScheduling

SHARED_OUT = "one_process_has_the_cluster"
"""What `conftest.py` tells each process of a run with `--dist loadscope`."""

SEVERAL = "There is one cluster on a machine, and these tests would run in several processes. Fix: run `make test`, or pytest without -n."

HERE = Path(__file__).parent
CLUSTER = "cluster"


class ClusterBesideTheRest(LoadScopeScheduling):
    """The first process has all tests of the cluster, the others have the rest, file by file.

    The cluster's tests are one long chain that waits more than it works: nothing else is to come before it.
    """

    def _split_scope(self, nodeid: str) -> str:
        return CLUSTER if needs_the_cluster(file_of(nodeid)) else str(file_of(nodeid))

    def _assign_work_unit(self, node: Any) -> None:
        if CLUSTER in self.workqueue:
            self.workqueue.move_to_end(CLUSTER, last=False)
        super()._assign_work_unit(node)


def several_have_the_cluster(worker: Mapping[str, Any]) -> bool:
    """Tell it of a process by xdist's `workerinput`, which is empty where there is only one."""
    return worker.get("workercount", 1) > 1 and not worker.get(SHARED_OUT, False)


def turn(file: Path) -> tuple[int, str]:
    """Order the files of a process: the quick tests first; those that start a cluster of their own before the shared one is up."""
    if not file.is_relative_to(HERE):
        return (0, "")
    return (2, file.name) if _shares_the_stack(file) else (1, file.name)


def file_of(nodeid: str) -> Path:
    return ROOT / nodeid.partition("::")[0]


def needs_the_cluster(file: Path) -> bool:
    return _shares_the_stack(file) or file == HERE / "test_cluster_lifecycle.py"


def _shares_the_stack(file: Path) -> bool:
    return file.parent == HERE and file.name.removeprefix("test_")[0].isdigit()
