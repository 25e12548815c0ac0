"""A pod's log while it grows."""

import threading
from collections import deque
from collections.abc import Callable

from gpuserve_images.builder.cluster import AbsentError, BuildCluster
from gpuserve_images.builder.manifests import CONTAINER

LAST_LINES = 15
"""Lines of a failed build that its error shows."""

_AGAIN_SECONDS = 0.5


class Follower:
    """Hands on each line of one pod's log once, though connections break.

    Attributes:
        last: The last lines, oldest first.
    """

    def __init__(self, cluster: BuildCluster, namespace: str, pod: str, report: Callable[[str], None]) -> None:
        """Start at once."""
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._cluster = cluster
        self._place = (namespace, pod)
        self._report = report
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log of {pod}", daemon=True)
        self._thread.start()

    def finish(self, seconds: float = 5.0) -> None:
        """Read on to the end of the log of a pod that ended, but no longer than this."""
        self._over.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        latest = ""
        while True:
            over = self._over.is_set()
            try:
                for line in self._cluster.log(*self._place, CONTAINER):
                    # Times are of one length and end in Z, so their order is that of their text.
                    time, _, text = line.partition(" ")
                    if time > latest:
                        latest = time
                        self.last.append(text)
                        self._report(text)
            except AbsentError:
                pass
            if over:
                return
            self._over.wait(_AGAIN_SECONDS)
