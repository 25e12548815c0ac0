"""One place that turns errors into words and exit statuses."""

import errno
import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import typer

from gpuserve.cli.output import notice
from gpuserve.kubernetes.errors import GpuserveError
from gpuserve_images.disks import FULL, too_large
from gpuserve_images.ending import status_when_told

debug: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether tracebacks are shown."""

FAILED = 1
INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command print its errors as sentences, without a traceback unless `--debug` was given."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(FAILED) from None
        except Exception as error:
            if (status := status_when_told()) is not None:
                raise typer.Exit(status) from None
            if _interrupted(error):
                raise typer.Exit(INTERRUPTED) from None
            if debug.get():
                raise
            notice(_sentence(error))
            raise typer.Exit(FAILED) from None

    return run


def _interrupted(error: BaseException | None) -> bool:
    """Tell whether an error came of Ctrl-C: modules in C that are being loaded make an ImportError of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        reason, fix = too_large()
        return f"{error.filename or 'a file'}: {reason}. Fix: {fix}"
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        return "the output: the disk that it goes to has no space left. Fix: free some, or send the output elsewhere"
    # The embedded engine's errors have a family of their own, because that package stands alone.
    if isinstance(error, GpuserveError | OSError) or type(error).__module__.startswith("gpuserve"):
        return str(error)
    name = type(error).__name__
    return f"gpuserve failed in a way it was not made for: {name}: {error}. Fix: run it again with `gpuserve --debug`, and report it"
