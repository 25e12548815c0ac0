"""All rules, and running them over one manifest."""

from collections.abc import Iterator

from gpuserve_policies.gpu import GPU_LIMITS
from gpuserve_policies.images import IMAGE_PINNED
from gpuserve_policies.probes import PROBES_PRESENT
from gpuserve_policies.rule import Context, Manifest, Rule, ValueNotKnownError, Violation

RULES: tuple[Rule, ...] = (GPU_LIMITS, IMAGE_PINNED, PROBES_PRESENT)


def violations(rule: Rule, manifest: Manifest, context: Context | None = None) -> Iterator[Violation]:
    """Yield what ``rule`` finds in ``manifest``; what is not known yet is a finding with ``unchecked``, never an exception."""
    try:
        yield from rule.check(manifest, context or Context())
    except ValueNotKnownError as unknown:
        yield unknown.violation
