"""`python -m gpuserve_images build`: one build of one model, for programs that start it, such as a Job in a cluster.

It runs the same stages as `pulumi up` and `gpuserve bake`, and hands back a report: the file holds `{"report": ...}` of a build that ended well
(`gpuserve_images.pipeline.report.BuildReport`), else `{"error": {"message", "kind"}}`. Progress goes to stderr, one line per event.
Exit status: 0 done, 1 not done for a reason that a person can put right, 2 wrong command line, 3 a failure of gpuserve itself.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve_images.ending import end_on_sigterm

FAILED, WRONG, BROKEN = 1, 2, 3
EVERY = 5.0
"""Seconds between two lines about the same work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = _parser().parse_args(arguments)
    if given.report and (reason := _unwritable(Path(given.report))):
        _say(f"--report = {given.report!r}: {reason}. Fix: name a file in a folder that is there and may be written to")
        return WRONG
    try:
        report: dict[str, Any] = {"report": _build(given)}
        status = 0
    except GpuserveError as error:
        report, status = _failure(error), FAILED
    except Exception as error:
        if os.environ.get("GPUSERVE_DEBUG"):
            raise
        report, status = _failure(error), BROKEN
    text = json.dumps(report, indent=2)
    if given.report:
        _write(Path(given.report), text)
    if status:
        _say(report["error"]["message"])
    if not given.report:
        sys.stdout.write(f"{text}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpuserve_images", description="Build a model's image.")
    command = parser.add_subparsers(required=True, metavar="build").add_parser("build", help="build, verify and push one build")
    command.add_argument(
        "--spec", required=True, type=Path, metavar="FILE", help="the model's YAML file; paths in it are relative to its folder"
    )
    command.add_argument("--build", required=True, metavar="NAME", help="which of its builds")
    command.add_argument(
        "--registry", required=True, metavar="ADDRESS", help="registry and path prefix, such as localhost:5000/models"
    )
    command.add_argument("--base", default="", metavar="REFERENCE", help="base image; default the build's, else the server's")
    command.add_argument("--server", default="triton", metavar="NAME", help="server to lay the model out for")
    command.add_argument("--kind", default="cpu", choices=["cpu", "gpu"], help="where the image will run")
    command.add_argument("--architecture", default=None, metavar="ARCH", help="its GPU, such as sm_80")
    command.add_argument("--cache", default=None, type=Path, metavar="DIR", help="folder of finished stages")
    command.add_argument("--report", default="", metavar="FILE", help="write the report there; default stdout")
    command.add_argument(
        "--key", default="", metavar="KEY", help="content key that must come out; another one is an error before any work"
    )
    return parser


def _build(given: argparse.Namespace) -> dict[str, Any]:
    from gpuserve_images.pipeline.build import build
    from gpuserve_images.pipeline.key import content_key
    from gpuserve_images.spec import load_model
    from gpuserve_images.target import Target

    spec, target = load_model(given.spec), Target(given.kind, given.architecture, given.server)
    folder = given.spec.parent
    if given.key:
        _require_key(content_key(spec, given.build, folder=folder, target=target, base=given.base), given.key)
    report = build(
        spec,
        given.build,
        folder=folder,
        registry=given.registry,
        base=given.base,
        target=target,
        progress=_Lines(),
        cache=given.cache,
    )
    return report.model_dump(mode="json")


def _require_key(found: str, wanted: str) -> None:
    from gpuserve_images.errors import ImageError

    if found != wanted:
        reason = f"comes to the content key {found}, and {wanted} was expected: files or tool versions differ from where it was planned"
        raise ImageError("build", reason, "Build with the same version of gpuserve, its extras and the same files.")


class _Lines:
    """One line for each new kind of work, and one now and then for long ones."""

    def __init__(self) -> None:
        self._last, self._said = "", 0.0

    def __call__(self, work: str, done: int, total: int) -> None:
        now = time.monotonic()
        if work != self._last or now - self._said >= EVERY:
            self._last, self._said = work, now
            _say(f"{work} {100 * done // total}%" if total else work)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _failure(error: Exception) -> dict[str, Any]:
    return {"error": {"message": str(error), "kind": type(error).__name__}}


def _unwritable(path: Path) -> str:
    """Return why no file can be written there, found out before hours of building; else nothing."""
    try:
        if path.is_dir():
            return "is a folder"
        _unfinished(path).touch()
        _unfinished(path).unlink()
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def _write(path: Path, text: str) -> None:
    """Write a file that is never seen half."""
    _unfinished(path).write_text(text, encoding="utf-8")
    _unfinished(path).replace(path)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
