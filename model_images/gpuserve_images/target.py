"""Where an image will run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Where an image will run.

    Attributes:
        kind: `cpu` or `gpu`.
        architecture: CUDA architecture such as `sm_80`, or None where it does not matter.
        server: The inference server whose layout the image has.
    """

    kind: str = "cpu"
    architecture: str | None = None
    server: str = "triton"


CPU = Target()
"""Triton on the processor of any machine: where an image runs unless something else is said."""
