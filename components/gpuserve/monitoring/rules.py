"""The rule groups: a constant number of rules, plus two per objective and one per shadow, ensemble and version beside another."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gpuserve.monitoring.runtimes import RUNTIMES
from gpuserve.monitoring.series import ensemble_rules
from gpuserve.monitoring.slo import alerts, answering, burn_rules, objective_rules, total_rules

if TYPE_CHECKING:
    from gpuserve.monitoring.spec import MonitoringSpec

EVALUATIONS_PER_WINDOW = 4
"""The rate window holds four scrapes, so evaluating four times per window follows every scrape.

What is recorded of requests must: rates over windows that only touch miss what happens between their scrapes, a quarter of everything,
and all of it for a client that comes once a minute."""

_RECORDED = re.compile(r"gpuserve:[a-z0-9_:]+(?:\{[^}]*\})?")


def groups(spec: "MonitoringSpec") -> list[dict[str, Any]]:
    """Return the Prometheus rule groups: common series per runtime, objectives, burn rates and the alerts."""
    window = spec.window.whole_seconds
    every = max(1, window // EVALUATIONS_PER_WINDOW)
    often = f"{every}s"
    found = [
        {"name": f"gpuserve-{runtime}", "interval": often, "rules": _common(runtime, spec)}
        for runtime in sorted({source.runtime for source in spec.sources})
    ]
    objectives = objective_rules(spec.slos, spec.sources, spec.scope)
    if objectives:
        found.append({"name": "gpuserve-objectives", "interval": f"{window}s", "rules": objectives})
    promises = [slo for slo in spec.slos if slo.availability is not None]
    if promises:
        found.append({"name": "gpuserve-services", "interval": often, "rules": total_rules(promises, spec.scope)})
        several = any(answering(slo, spec.sources) for slo in promises)
        burning = burn_rules(spec.scope) + (alerts(spec.scope, every=every, several=several) if spec.alerts else [])
        found.append({"name": "gpuserve-slo", "interval": f"{window}s", "rules": burning})
    return found


def expressions(spec: "MonitoringSpec") -> Iterator[str]:
    """Yield every PromQL expression of the rules.

    An alert's own expression has data only while it fires, so the series that it compares stand in for it.
    """
    for group in groups(spec):
        for rule in group["rules"]:
            if "record" in rule:
                yield str(rule["expr"])
            else:
                yield from _RECORDED.findall(rule["expr"])


def _common(runtime: str, spec: "MonitoringSpec") -> list[dict[str, Any]]:
    """Return the ensembles first: a group's rules run in their order, and the series are about them."""
    ensembles = ensemble_rules(source for source in spec.sources if source.runtime == runtime)
    expressions = RUNTIMES[runtime].expressions(f"{spec.window.whole_seconds}s", bool(ensembles), spec.scope)
    return ensembles + [{"record": name, "expr": expr} for name, expr in expressions.items()]
