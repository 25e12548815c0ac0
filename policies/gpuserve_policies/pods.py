"""Finding the pods and containers that a manifest makes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve_policies.rule import Check, Context, Manifest, ValueNotKnownError, Violation, read

LONG_RUNNING = frozenset({"Deployment", "StatefulSet", "LeaderWorkerSet"})
"""Kinds whose pods are meant to run until they are replaced."""

_TEMPLATE = ("spec", "template")
_POD_PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "Pod": ((),),
    "Deployment": (_TEMPLATE,),
    "StatefulSet": (_TEMPLATE,),
    "DaemonSet": (_TEMPLATE,),
    "ReplicaSet": (_TEMPLATE,),
    "ReplicationController": (_TEMPLATE,),
    "Job": (_TEMPLATE,),
    "CronJob": (("spec", "jobTemplate", "spec", "template"),),
    "LeaderWorkerSet": (
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ),
}


@dataclass(frozen=True)
class Container:
    """One container of a pod, or of a pod template.

    Attributes:
        kind: Kind of the object that it stands in.
        path: Where it stands in the object.
        body: The container itself.
        init: True for an init container.
    """

    kind: str
    path: str
    body: Mapping[str, Any]
    init: bool

    def read(self, *keys: str) -> Any:
        """Return the value at ``keys`` below the container, or ``None``.

        Raises:
            ValueNotKnownError: When it is not known yet.
        """
        return _descend(self.body, keys, self.path)


@dataclass(frozen=True)
class Pod:
    """A pod or a pod template.

    Attributes:
        path: Where it stands in the object; empty for a Pod.
        body: Its ``metadata`` and ``spec``.
        containers: Its containers, init containers first.
    """

    path: str
    body: Mapping[str, Any]
    containers: tuple[Container, ...]

    def label(self, key: str) -> str | None:
        """Return a label of the pod."""
        return _descend(self.body, ("metadata", "labels", key), self.path)


def pods(manifest: Manifest) -> Iterator[Pod]:
    """Yield every pod template of ``manifest``; nothing for a kind that makes no pods.

    Raises:
        ValueNotKnownError: When the template or its list of containers is not known yet.
    """
    kind = str(manifest.get("kind"))
    for keys in _POD_PATHS.get(kind, ()):
        body = _descend(manifest, keys, "")
        if isinstance(body, Mapping):
            path = ".".join(keys)
            yield Pod(path, body, tuple(_containers(kind, path, body)))


def per_container(check: Callable[[Container, Context], Iterator[Violation]]) -> Check:
    """Make a check of containers one of manifests; a container that is not known yet does not hide the others."""

    def check_manifest(manifest: Manifest, context: Context) -> Iterator[Violation]:
        for pod in pods(manifest):
            for container in pod.containers:
                try:
                    yield from check(container, context)
                except ValueNotKnownError as unknown:
                    yield unknown.violation

    return check_manifest


def _containers(kind: str, path: str, body: Mapping[str, Any]) -> Iterator[Container]:
    spec = f"{path}.spec" if path else "spec"
    for group in ("initContainers", "containers"):
        for index, _ in enumerate(items := _descend(body, ("spec", group), path) or ()):
            at = f"{spec}.{group}[{index}]"
            if not isinstance(items[index], Mapping):
                raise ValueNotKnownError(at)
            yield Container(kind, at, items[index], init=group == "initContainers")


def _descend(data: Mapping[str, Any], keys: tuple[str, ...], at: str) -> Any:
    value: Any = data
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = read(value, key, at)
        at = f"{at}.{key}" if at else key
    return value
