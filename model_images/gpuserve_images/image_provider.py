"""What the engine asks about a `ModelImage`, in the process of dynamic providers.

The engine does nothing else while it waits for the first answer, and so for what is imported until then. An image of which nothing changed
needs nothing but this.
"""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice, configured_choice
from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import ImageError, RegistryError

if TYPE_CHECKING:
    from gpuserve_images.pipeline.report import BuildReport
    from gpuserve_images.resource_arguments import Arguments

Props = dict[str, Any]


class ImageProvider(ResourceProvider):
    """Builds images for the engine; what the engine keeps of it is stateless, so that its serialised form never differs."""

    serialize_as_secret_always = False
    cluster: ClusterChoice = AMBIENT

    def configure(self, req: ConfigureRequest) -> None:
        """Take over which cluster the stack names: Jobs go where the Kubernetes provider's objects go.

        From the configuration rather than by inputs, so that no kubeconfig is kept in the state of an image, and a renewed one changes none.
        """
        self.cluster = configured_choice(req.config.get)

    def check(self, _olds: Props, news: Props) -> CheckResult:
        """Refuse what would fail in `create`, while nothing has been changed yet: this runs in a preview too.

        The program has read and checked the model's files to tell the key a moment ago. They are not read a second time to ask
        about an image, only to build one.
        """
        if not _changed(_olds, news) and _signer(_olds) == _signer(news):
            return CheckResult(news, [])
        try:
            arguments = self._arguments(news)
            found = arguments.found()
            if found is None and (problem := arguments.builder_problem()):
                return CheckResult(news, [CheckFailure("build", problem)])
            if unmeasured := arguments.capacity_problem(found):
                return CheckResult(news, [CheckFailure("measured", str(unmeasured))])
        except RegistryError as error:
            return CheckResult(news, [CheckFailure("registry", str(error))])
        except (SpecError, ImageError) as error:
            return CheckResult(news, [CheckFailure("model", str(error))])
        return CheckResult(news, [])

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Say that there is work exactly when the content or its place differ: paths on this machine do not matter."""
        return DiffResult(changes=_changed(_olds, _news), replaces=[], stables=[], delete_before_replace=False)

    def create(self, props: Props) -> CreateResult:
        """Build the image, or find it in the registry."""
        with _readable_errors():
            report, outputs = _made(self._arguments(props))
        return CreateResult(report.tag, outputs)

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Build the image of the new content; the old one stays in the registry."""
        with _readable_errors():
            _, outputs = _made(self._arguments(_news))
        return UpdateResult(outputs)

    def read(self, id_: str, props: Props) -> ReadResult:
        """Look the image up; an empty id tells the engine that it is gone, so that the next `up` makes it again."""
        with _readable_errors():
            arguments = self._arguments(props)
            found = arguments.refreshed()
            outputs = {} if found is None else _outputs(props, found, arguments.capacity(found))
        return ReadResult("" if found is None else id_, outputs)

    def delete(self, _id: str, _props: Props) -> None:
        """Leave the image: tags never mean two things, and the registry is the cache of the next build."""

    def _arguments(self, props: Props) -> "Arguments":
        from gpuserve_images.resource_arguments import Arguments

        return Arguments(props, self.cluster)


def _changed(olds: Props, news: Props) -> bool:
    """Tell whether there is work.

    Where an autoscaler aims at the capacity, another promised latency makes another capacity of the same image.
    """
    if any(olds.get(name) != news.get(name) for name in ("key", "registry")):
        return True
    return bool(news.get("measured") and _latency(olds) != _latency(news))


def _signer(props: Props) -> object:
    """Return whose signature is demanded: no part of the content, and yet another one must be looked for."""
    return ((props.get("model") or {}).get("bake") or {}).get("sign")


def _latency(props: Props) -> object:
    return ((props.get("model") or {}).get("slo") or {}).get("latency_p95")


def _made(arguments: "Arguments") -> "tuple[BuildReport, Props]":
    report = arguments.build()
    return report, _outputs(arguments.props, report, arguments.capacity(report))


def _outputs(props: Mapping[str, Any], report: "BuildReport", capacity: float | None) -> Props:
    inputs = {name: value for name, value in props.items() if not name.startswith("__")}
    summary = report.summary
    return {
        **inputs,
        "reference": report.reference,
        "signature": summary.signature.model_dump_json() if summary.signature else "null",
        "parity": summary.parity.model_dump_json() if summary.parity else "null",
        "quantisation": summary.quantisation,
        "capacity": capacity,
    }


@contextmanager
def _readable_errors() -> Generator[None]:
    """Show users the message alone: the dynamic provider's host sends a formatted traceback, whose frames are no use to them.

    `GPUSERVE_DEBUG=1` shows them. The limit is the process's own, so it stays: requests are served by several threads.
    """
    try:
        yield
    except (SpecError, ImageError) as error:
        if os.environ.get("GPUSERVE_DEBUG"):
            raise
        sys.tracebacklimit = 0
        raise error.with_traceback(None) from None
