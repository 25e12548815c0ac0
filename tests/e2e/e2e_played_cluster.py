"""A cluster that plays a part: each look at the pods shows the next scene."""

import threading
from collections.abc import Iterator
from typing import Any

from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.cluster import AbsentError, UnreachableError
from gpuserve_images.builder.manifests import BuildJob
from gpuserve_images.builder.spec import BuilderSpec

JOB = BuildJob(
    model="small",
    build="int8",
    key="ab" * 32,
    context="localhost:5000/models/small/contexts@sha256:" + "c" * 64,
    image="localhost:5000/gpuserve/builder@sha256:" + "b" * 64,
    registry="localhost:5000",
    placement=Placement(pool="a100", namespace="gpuserve-a100"),
    spec=BuilderSpec.parse({"kind": "job"}),
)


def pod(name: str, *, conditions: list[dict[str, Any]] | None = None, **state: Any) -> dict[str, Any]:
    """Return a pod whose container is in a state: `running={}`, `waiting={...}` or `terminated={...}`."""
    statuses = [{"name": "build", "state": state}] if state else []
    return {"metadata": {"name": name}, "status": {"containerStatuses": statuses, "conditions": conditions or []}}


class PlayedCluster:
    """Plays a Job: scenes of pods, then the end."""

    def __init__(  # noqa: PLR0913 - each keyword is one thing that may happen
        self,
        scenes: list[list[dict[str, Any]]],
        *,
        end: str | dict[str, Any],
        there: str = "",
        events: list[dict[str, Any]] | None = None,
        logs: dict[str, list[str]] | None = None,
        breaks_after: int = 0,
        unreachable: int = 0,
        missing: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.created: list[str] = []
        self.deleted: list[str] = []
        self._scenes = scenes
        self._shown = -1
        self._end = {"type": end, "status": "True"} if isinstance(end, str) else end
        self._there = there
        self._events = events or []
        self._logs = logs or {}
        self._breaks_after = breaks_after
        self._unreachable = unreachable
        self._missing = missing
        self._lock = threading.Lock()

    def require_rights(self, namespace: str) -> None:
        """Allow everything."""

    def lacks(self, kind: str, namespace: str, name: str = "") -> bool:
        return (kind, name or namespace) in self._missing

    def create(self, job: dict[str, Any]) -> bool:
        if self._there:
            return False
        self.created.append(job["metadata"]["name"])
        return True

    def job(self, namespace: str, name: str) -> dict[str, Any] | None:
        if self._there in {"Failed", "Complete"}:
            conditions = [{"type": self._there, "status": "True"}]
            return {"metadata": {}, "status": {"conditions": conditions}}
        if self._shown < 0 and self._there:
            self._there = "joined"
        if self._unreachable:
            self._unreachable -= 1
            raise UnreachableError("cluster https://10.0.0.1", "does not answer", "Start it.")
        self._shown += 1
        over = self._shown >= len(self._scenes)
        if over and self._end["type"] == "gone":
            return None
        return {"metadata": {}, "status": {"conditions": [self._end] if over else []}}

    def delete(self, namespace: str, name: str) -> None:
        self.deleted.append(name)
        self._there = ""

    def pods(self, namespace: str, job: str) -> list[dict[str, Any]]:
        return self._scenes[min(self._shown, len(self._scenes) - 1)] if self._shown >= 0 else []

    def events(self, namespace: str, name: str) -> list[dict[str, Any]]:
        return self._events

    def log(self, namespace: str, pod: str, container: str) -> Iterator[str]:
        lines = [f"2026-01-01T00:00:{number:02}.000000000Z {text}" for number, text in enumerate(self._logs.get(pod, []))]
        with self._lock:
            breaks, self._breaks_after = self._breaks_after, 0
        if breaks:
            yield from lines[:breaks]
            raise AbsentError
        yield from lines
        yield "unable to retrieve container logs for containerd://0123"
