"""How a program ends when it is told to: by way of everything that it has to put away."""

import signal
from types import FrameType


def end_on_sigterm() -> None:
    """Make SIGTERM end this program as `sys.exit(143)` does, 128 + SIGTERM as shells report it.

    By default the kernel ends it on the spot: folders of gigabytes stay behind, child processes go on, and the first process of a
    container takes no notice at all. To be called in the main thread, by programs and not by libraries.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    # A second one would cut short what puts things away; no SIG_IGN, which programs that are started for that would inherit.
    signal.signal(number, _wait)
    raise SystemExit(128 + number)


def _wait(_number: int, _frame: FrameType | None) -> None:
    """Go on ending."""
