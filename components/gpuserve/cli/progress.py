"""Progress of long commands: nothing for quick ones, a bar for people, lines for logs."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gpuserve.cli.output import notice

Tell = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is (both 0 when unknown)."""

QUIET = 2.0
"""Seconds before anything is shown."""


@contextmanager
def progress(*, quiet: float = QUIET) -> Generator[Tell]:
    """Give a callback that shows progress on stderr, once the command has taken longer than `quiet` seconds."""
    if sys.stderr.isatty():
        with _bar(quiet) as tell:
            yield tell
    else:
        yield _Lines(quiet)


class _Lines:
    """One line for each new kind of work."""

    def __init__(self, quiet: float) -> None:
        self._until = time.monotonic() + quiet
        self._last = ""

    def __call__(self, work: str, done: int, total: int) -> None:
        del done, total
        if work != self._last and time.monotonic() >= self._until:
            self._last = work
            notice(work)


@contextmanager
def _bar(quiet: float) -> Generator[Tell]:
    until = time.monotonic() + quiet
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[share]}"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None, share="")

    def tell(work: str, done: int, total: int) -> None:
        if time.monotonic() >= until and not bar.live.is_started:
            bar.start()
        share = f"{100 * done // total}%" if total else ""
        bar.update(task, description=work, completed=done, total=total or None, share=share)

    try:
        yield tell
    finally:
        bar.stop()
