"""Rules about single Kubernetes objects, one per function; run by the policy pack, by ``gpuserve check`` and by programs."""

from gpuserve_policies.rule import Context, Rule, Violation
from gpuserve_policies.rules import RULES, violations

__all__ = ["RULES", "Context", "Rule", "Violation", "violations"]
