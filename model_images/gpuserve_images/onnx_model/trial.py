"""Loading a model in a process of its own first: some make ONNX Runtime end the process that it is in."""

import signal
import subprocess
import sys
from pathlib import Path

_LOAD = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
try:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception:
    pass  # The process that asks is told by the same error.
"""


def fatal(model: Path) -> str | None:
    """Return what ends a process in which ONNX Runtime loads a model, such as `SIGABRT: Assertion ... failed.`, or None.

    A failed assertion of its graph optimiser is no error that anybody could catch: it would end `pulumi up` and, in production, the server.
    An error that it raises is none of this.

    Args:
        model: The ONNX file.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LOAD, str(model)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode >= 0:
        return None
    said = done.stderr.strip().splitlines()
    # Before it stand the place in a file of its own and the signature of a function.
    return ": ".join([signal.Signals(-done.returncode).name, *(line.rpartition(": ")[2] for line in said[-1:])])
