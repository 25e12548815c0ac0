"""Where `gpuserve` begins: before its modules are loaded, which takes a moment in which somebody may press Ctrl-C."""

import signal


def main() -> None:
    """Run the command line; ended by Ctrl-C while it loads, it says nothing, as a program that was never started."""
    catching = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if catching:  # Who started it may have it ignored, as `nohup` does.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gpuserve.cli.main import main as run

    if catching:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
