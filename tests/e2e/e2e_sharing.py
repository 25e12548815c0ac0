"""Whether the tests of a run are shared out so that one process alone has the cluster."""

from collections.abc import Mapping
from typing import Any

SHARED_OUT = "one_process_has_the_cluster"
"""What `conftest.py` tells each process of a run with `--dist loadscope`."""

SEVERAL = "There is one cluster on a machine, and these tests would run in several processes. Fix: run `make test`, or pytest without -n."


def several_have_the_cluster(worker: Mapping[str, Any]) -> bool:
    """Tell it of a process by xdist's `workerinput`, which is empty where there is only one."""
    return worker.get("workercount", 1) > 1 and not worker.get(SHARED_OUT, False)
