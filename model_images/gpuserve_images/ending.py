"""How a program ends when it is told to: by way of everything that it has to put away."""

import signal
import sys
from types import FrameType

_AGAIN = 0.01
"""Seconds until a program that swallowed its end is told again."""

_told: list[int] = []


def end_on_sigterm() -> None:
    """Make SIGTERM end this program as `sys.exit(143)` does, 128 + SIGTERM as shells report it.

    By default the kernel ends it on the spot: folders of gigabytes stay behind, child processes go on, and the first process of a
    container takes no notice at all. To be called in the main thread, by programs and not by libraries.
    """
    signal.signal(signal.SIGTERM, _end)
    before = sys.unraisablehook

    def unraisable(unraised: "sys.UnraisableHookArgs") -> None:
        if _told and isinstance(unraised.exc_value, SystemExit):
            # The signal came in a finaliser or a weak reference's callback, which let nothing through: the program would go on.
            signal.signal(signal.SIGALRM, _end_after_all)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            before(unraised)

    sys.unraisablehook = unraisable


def status_when_told() -> int | None:
    """Return the exit status of a program that was told to end; None where it was not.

    Whatever fails after that failed because of it: modules that are imported turn the end into an error of their own.
    """
    return 128 + _told[0] if _told else None


def _end(number: int, _frame: FrameType | None) -> None:
    # A second one would cut short what puts things away; no SIG_IGN, which programs that are started for that would inherit.
    signal.signal(number, _wait)
    _told.append(number)
    raise SystemExit(128 + number)


def _end_after_all(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(status_when_told())


def _wait(_number: int, _frame: FrameType | None) -> None:
    """Go on ending."""
