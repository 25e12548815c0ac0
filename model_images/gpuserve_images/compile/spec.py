"""What may be said about engines."""

import re
from typing import Annotated

from pydantic import AfterValidator


def _architecture(value: str) -> str:
    if not re.fullmatch(r"sm_\d{2,3}", value):
        msg = "is not a GPU architecture; write its compute capability without the dot, for example 'sm_80'"
        raise ValueError(msg)
    return value


Architecture = Annotated[str, AfterValidator(_architecture)]
"""A CUDA architecture such as ``sm_80``: the compute capability 8.0 without its dot."""
