"""Where `gpuserve` begins: before its modules are loaded, which takes a moment in which somebody may press Ctrl-C."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; ended by Ctrl-C while it loads, it says nothing, as a program that was never started."""
    _open_streams()
    catching = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if catching:  # Who started it may have it ignored, as `nohup` does.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gpuserve.cli.main import main as run

    if catching:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _open_streams() -> None:
    """Give closed standard streams (`>&-`) the null device.

    Their numbers would go to the first files that are opened, and what a library prints, or a child process, would be written into those.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one, as those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
