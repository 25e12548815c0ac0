"""Running the programs that builds need, with their output as progress and, on failure, in the error."""

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from gpuserve_images.errors import BaseImageError

_LOG_LINES = 20

Report = Callable[[str], None]
"""Called with each line of output."""


def silent(_line: str) -> None:
    """Report nothing."""


def run(command: Sequence[str], *, what: str, report: Report, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return its output.

    Args:
        command: Program and arguments.
        what: What is being made, for messages.
        report: Called with each line of output.
        env: Environment; by default this process's.

    Raises:
        BaseImageError: The program is missing or failed; with the last lines it wrote.
    """
    program = command[0]
    last: deque[str] = deque(maxlen=_LOG_LINES)
    lines: list[str] = []
    if shutil.which(program, path=None if env is None else env.get("PATH", os.defpath)) is None:
        raise BaseImageError(what, f"it needs {program}, which is not installed", f"Install it: apt-get install {program}")
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with process:
        try:
            for line in process.stdout or ():
                text = line.rstrip()
                if text:
                    lines.append(text)
                    last.append(text)
                    report(text)
        except BaseException:  # else it would be waited for to its own end
            process.terminate()
            raise
    if process.returncode:
        reason = f"{program} ended with status {process.returncode}"
        raise BaseImageError(what, reason, "Put right what its last lines say, then run again", log=last)
    return "\n".join(lines)
