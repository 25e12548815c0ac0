"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Take interrupts: a shell starts background jobs with SIGINT ignored, and what the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
