"""Waiting until `gpuserve status` is content: an autoscaler is not before the first requests were counted."""

import time

from gpuserve.cli.cluster import connect
from gpuserve.cli.inspection import services
from gpuserve.cli.stack import Stack
from gpuserve_embedded.run.steps import Progress

_PATIENCE = 60.0
"""Seconds; a scrape (5 s), the adapter's look at it (10 s) and the autoscaler's own (15 s) come one after the other."""
_LOOK_SECONDS = 1.0


def wait_until_ready(stack: Stack, kubeconfig: str | None, progress: Progress) -> dict[str, str]:
    """Wait until every service is ready, at most a minute.

    Returns:
        Service -> what it still waits for, of those that are not ready. A cluster of the user's own may lack what
        an autoscaler needs, and the service answers all the same: so this is news, not a failure.

    Raises:
        ClusterUnreachableError: When the cluster does not answer.
    """
    cluster = connect(kubeconfig, stack.environment.cluster)
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = services(stack, cluster)
        waiting = {
            name: f"{service['blocked_by']['object']} {service['blocked_by']['reason']}"
            for name, service in found.items()
            if not service["ready"]
        }
        if not waiting or time.monotonic() > deadline:
            return waiting
        name, why = next(iter(waiting.items()))
        progress(f"{name} waits for {why}")
        time.sleep(_LOOK_SECONDS)
