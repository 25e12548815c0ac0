"""What runs in the pod: fetch the context, build, and leave the reason behind when it fails."""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve_images.builder import context
from gpuserve_images.builder.context import Order, tools_of
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.manifests import REFUSED
from gpuserve_images.errors import RegistryError
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.report import BuildReport

_MESSAGE = Path("/dev/termination-log")
_MESSAGE_BYTES = 4000
"""The kubelet keeps 4096 bytes of a container's last message (kubernetes.io/docs/tasks/debug, "termination message")."""

_LEFT_OUT = " [... the whole of it is in the log above ...] "

_MAY_PASS = 1
_FRAMES = 4
"""Of an error that nobody foresaw: enough to report it."""

_EVERY_SECONDS = 5.0
_MEBI = 2**20


def main(arguments: Sequence[str]) -> int:
    """Build, and return the exit status: 3 for what would fail again, 1 for what may pass.

    Args:
        arguments: The context's reference.
    """
    try:
        _say(_summary(run(arguments[0])))
    except GpuserveError as error:
        status = _MAY_PASS if _passing(error) else REFUSED
        _leave(str(error))
        return status
    except ImportError as error:
        _leave(f"builder image: lacks what the build needs ({error}). Fix: name an image that has it as `builder.image`.")
        return REFUSED
    except Exception as error:  # noqa: BLE001 - whatever it is, the reason must reach whoever waits for the build
        traceback.print_exc(limit=-_FRAMES)
        _leave(f"{type(error).__name__}: {error}")
        return _MAY_PASS
    return 0


def run(reference: str) -> BuildReport:
    """Build what a context asks for.

    Raises:
        JobError: When this machine's tools would make another image than the machine that asks expects.
        GpuserveError: As `pipeline.build.build`.
    """
    folder = Path(tempfile.mkdtemp(prefix="context-"))
    _say(f"fetching {reference}")
    order = context.pull(reference, folder)
    packages = str(folder / context.PACKAGES)
    # For this process, and for those that a stage starts.
    sys.path.append(packages)
    os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), packages])
    _require_key(order, folder)
    return build(
        order.model,
        order.build,
        folder=folder,
        registry=order.registry,
        base=order.base,
        target=order.target,
        progress=Lines(),
    )


class Lines:
    """Progress as lines: each stage when it begins, and bytes now and then."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self._stage = ""
        self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say it when there is something new."""
        now = time.monotonic()
        if stage != self._stage:
            _say(stage)
        elif total <= 0 or now - self._said < _EVERY_SECONDS:
            return
        else:
            unit = _MEBI if total > _MEBI else 1
            _say(f"{stage}: {done // unit} of {total // unit}{' MiB' if unit > 1 else ''}")
        self._stage, self._said = stage, now


def _require_key(order: Order, folder: Path) -> None:
    chain = plan(order.job(folder), order.base)
    if chain.key == order.key:
        return
    here = tools_of(chain)
    other = [
        f"{name} {here.get(name, 'absent')} instead of {version}"
        for name, version in order.tools.items()
        if here.get(name) != version
    ]
    reason = f"would make another image than the one asked for: it has {', '.join(other) or 'another version of gpuserve'}"
    raise JobError("builder image", reason, "Use an image with the same versions, or leave `image` out.")


def _passing(error: GpuserveError) -> bool:
    """Tell whether trying again may help: a registry that is down comes back, a wrong model does not get right."""
    if not isinstance(error, RegistryError):
        return False
    return error.status is None or error.status >= 500 or error.status == 429  # noqa: PLR2004 - HTTP: the server's fault; too many requests


def _summary(report: BuildReport) -> str:
    ran = ", ".join(f"{run.stage} ({run.origin}, {run.seconds:.1f} s)" for run in report.stages) or "the registry had the image"
    return f"{ran}\nbuilt {report.reference} in {report.seconds:.1f} s"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the pod's log is its user interface


def _leave(message: str) -> None:
    """Write the reason where the kubelet picks it up, and into the log."""
    _say(message)
    if _MESSAGE.exists():
        _MESSAGE.write_text(_shortened(message), encoding="utf-8")


def _shortened(message: str) -> str:
    """Return what the kubelet keeps whole: the beginning and the end, where the fix stands."""
    if len(message.encode()) <= _MESSAGE_BYTES:
        return message
    half = _MESSAGE_BYTES // 2 - len(_LEFT_OUT)
    first, last = message.encode()[:half], message.encode()[-half:]
    return first.decode(errors="ignore") + _LEFT_OUT + last.decode(errors="ignore")
