"""The error of a program that can be neither found nor built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class ToolError(Exception):
    """A program is not to be had: says which, why, and what to do.

    Attributes:
        program: The program's name, for example `kube`.
        reason: What went wrong, in one sentence.
        fix: What the reader can do about it.
        log: Where the whole build log lies, if there was a build.
        tail: The log's last lines.
    """

    program: str
    reason: str
    fix: str
    log: Path | None = None
    tail: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.program}: {self.reason}"]
        if self.tail:
            lines += [f"  last lines of {self.log}:", *(f"    {line}" for line in self.tail)]
        lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)
