"""Progress a person can follow: one line per step with its time, and what it is doing now."""

import re
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from rich.console import Console
from rich.markup import escape
from rich.status import Status

Progress = Callable[[str], None]
"""Takes a line that says what is being done now; one that begins with ``[3/9]`` says how far it is, and is shown with a bar."""

_BAR = 20
"""Characters of a bar."""

_QUIET_SECONDS = 15.0
"""Without a terminal, a long step says what it is doing this often, so that a log shows that it lives."""


@dataclass
class Steps:
    """Prints numbered steps and remembers how long each took.

    Attributes:
        total: How many steps there are.
        stderr: Print to standard error, because standard output carries the result.
        seconds: Title of each finished step -> how long it took.
    """

    total: int
    stderr: bool = False
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @cached_property
    def console(self) -> Console:
        """Where the steps are printed."""
        return Console(stderr=self.stderr, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Generator[Progress]:
        """Time one step; yields the function that takes its progress lines."""
        number = len(self.seconds) + 1
        label = f"[bold]\\[{number}/{self.total}][/bold] {escape(title)}"
        started = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(label) as status:
                yield _live(status, label, started)
        else:
            self.console.print(f"{label} ...")
            yield _logged(self.console, started)
        self.seconds[title] = time.monotonic() - started
        self.console.print(f"{label} [green]done[/green] in {self.seconds[title]:.1f} s")
        sys.stdout.flush()


def bar(line: str) -> str:
    """Return a bar for a line such as ``[3/9] building traefik``: two of nine are done; nothing for another line."""
    found = re.match(r"\[(\d+)/(\d+)\]", line)
    if found is None:
        return ""
    filled = _BAR * (int(found[1]) - 1) // max(1, int(found[2]))
    return f"[green]{'━' * filled}[/green][dim]{'━' * (_BAR - filled)}[/dim]  "


def _live(status: Status, label: str, started: float) -> Progress:
    def progress(line: str) -> None:
        status.update(f"{label}  {bar(line)}[dim]{time.monotonic() - started:.0f} s  {escape(line.strip()[-100:])}[/dim]")

    return progress


def _logged(console: Console, started: float) -> Progress:
    last = started

    def progress(line: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _QUIET_SECONDS:
            last = now
            console.print(f"      {now - started:.0f} s  {escape(line.strip()[-160:])}")
            sys.stdout.flush()

    return progress
