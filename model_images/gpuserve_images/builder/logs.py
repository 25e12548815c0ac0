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

    def end(self) -> None:
        """Say that the pod ended: the log is read to its end and no further."""
        self._over.set()

    def join(self, seconds: float = 5.0) -> None:
        """Wait until the log was read to its end, but no longer than this."""
        self._thread.join(seconds)

    def _run(self) -> None:
        latest = ""
        while True:
            over = self._over.is_set()
            try:
                for line in self._cluster.log(*self._place, CONTAINER):
                    # Times are of one length and end in Z, so their order is that of their text.
                    time, _, text = line.partition(" ")
                    # The kubelet's own complaints have no time.
                    if time > latest and time[:1].isdigit():
                        latest = time
                        self.last.append(text)
                        self._report(text)
            except AbsentError:
                pass
            if over:
                return
            self._over.wait(_AGAIN_SECONDS)
