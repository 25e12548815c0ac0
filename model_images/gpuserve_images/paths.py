"""Paths that a spec may name."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def _inside(value: str) -> str:
    if Path(value).is_absolute() or ".." in Path(value).parts:
        msg = "leaves the package; write a path below the package's folder"
        raise ValueError(msg)
    return value


InsidePath = Annotated[str, AfterValidator(_inside)]
"""A relative path or glob that stays below the folder it belongs to."""
