"""Run Pulumi's host of dynamic providers for as long as the engine lives.

The wrapper starts this file with the project's own Python, so it imports nothing of the language host's, and nothing
but Pulumi's SDK beside the standard library. The SDK's host waits for ever: of an engine that was killed it hears nothing.
"""

import os
import runpy
import sys
import threading
import time

_LOOK_SECONDS = 1.0


def main() -> None:
    """Serve dynamic providers until the process that started this one is gone."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as `python -m` has it: a provider's modules lie beside the program
    runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)


def _end_with(engine: int) -> None:
    while os.getppid() == engine:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)  # nobody is left to answer


if __name__ == "__main__":
    main()
