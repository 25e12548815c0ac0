"""A cluster that stops answering while it is read is an error in words."""

from types import SimpleNamespace
from typing import Any

import pytest
from urllib3.exceptions import ReadTimeoutError

from gpuserve.cli.cluster import Cluster, ClusterUnreachableError


class Silent:
    """Knows every kind, and answers nothing."""

    def get(self, **_: Any) -> Any:
        raise self.error

    def __init__(self, error: Exception) -> None:
        self.error = error


@pytest.mark.parametrize("error", [ReadTimeoutError(None, "/", "Read timed out."), ConnectionResetError("reset")])  # type: ignore[arg-type]
def test_a_cluster_that_falls_silent_is_named(error: Exception) -> None:
    cluster = Cluster.__new__(Cluster)
    cluster.address = "https://10.0.0.1:6443"
    cluster._dynamic = SimpleNamespace(resources=SimpleNamespace(get=lambda **_: Silent(error)))
    for ask in (lambda: cluster.get("v1", "Pod", "a"), lambda: cluster.list("v1", "Pod", "n")):
        with pytest.raises(ClusterUnreachableError, match=r"cluster https://10.0.0.1:6443: does not answer .*Fix: start it"):
            ask()
