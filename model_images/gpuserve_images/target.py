"""Where an image will run."""

from dataclasses import dataclass

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.compile.spec import ARCHITECTURE


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


def require_target(target: object) -> None:
    """Refuse what is no place that an image can run at; servers are known by who lays models out for them.

    Raises:
        SpecError: When it is no `Target`, or of another kind or architecture than there are.
    """
    if not isinstance(target, Target):
        fix = "pass for example Target(kind='gpu', architecture='sm_86')"
        raise SpecError.of("target", target, "is no `gpuserve_images.target.Target`", fix)
    if target.kind not in {"cpu", "gpu"}:
        raise SpecError.of("target.kind", target.kind, "is no place that an image can run at", "use 'cpu' or 'gpu'")
    if target.architecture is not None and not ARCHITECTURE.fullmatch(target.architecture):
        fix = "write its compute capability without the dot, for example 'sm_80'"
        raise SpecError.of("target.architecture", target.architecture, "is not a GPU architecture", fix)
