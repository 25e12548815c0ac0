"""Multi-window, multi-burn-rate alerting.

Burn rates and windows are those of Google's SRE Workbook, chapter 5, table 5-8 ("Recommended parameters for an SLO-based
alerting configuration"), for pages: 2 % of a 30-day budget within one hour is a burn rate of 14.4, 5 % within six hours one of 6.
The short window (a twelfth of the long one) ends the alert soon after the errors end.
https://sre.google/workbook/alerting-on-slos/
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuserve.monitoring.series import ERRORS, REQUESTS, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuserve.monitoring.spec import SloSpec

BUDGET = "gpuserve:slo_error_budget"
"""Share of the requests that may fail, per service."""

LATENCY_OBJECTIVE = "gpuserve:slo_latency_seconds"
SERVICE_REQUESTS = "gpuserve:service_requests_per_second"
SERVICE_ERRORS = "gpuserve:service_errors_per_second"


@dataclass(frozen=True)
class Burn:
    """One condition: the budget burns faster than ``rate`` over both windows."""

    rate: float
    long: str
    short: str


BURNS = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
SLOWEST_BURN = min(burn.rate for burn in BURNS)
WINDOWS = ("5m", "30m", "1h", "6h")


def burn_rate(window: str) -> str:
    """Return the name of the recorded burn rate: 1 spends the whole budget in exactly 30 days."""
    return f"gpuserve:burn_rate:{window}"


def objective_rules(slos: "Iterable[SloSpec]") -> list[dict[str, Any]]:
    """Return the objectives as series, so that one rule serves every service."""
    rules: list[dict[str, Any]] = []
    for slo in slos:
        labels = {"service": slo.service}
        if slo.availability is not None:
            budget = 1 - slo.availability.fraction
            rules.append({"record": BUDGET, "expr": f"vector({budget:.10g})", "labels": dict(labels)})
        if slo.latency_p95 is not None:
            rules.append({"record": LATENCY_OBJECTIVE, "expr": f"vector({slo.latency_p95.seconds:g})", "labels": dict(labels)})
    return rules


def burn_rules() -> list[dict[str, Any]]:
    """Return per-service rates and their burn rates.

    The sums come first because over a long window they are a handful of series, while pods come and go. Their rates are
    recorded once per rate window, so that sums over time count every request once.
    """
    totals = [
        {"record": SERVICE_REQUESTS, "expr": f"sum by (service) ({REQUESTS})"},
        {"record": SERVICE_ERRORS, "expr": f"sum by (service) ({ERRORS})"},
    ]
    return totals + [{"record": burn_rate(window), "expr": _burn(window)} for window in WINDOWS]


def _burn(window: str) -> str:
    failed = ratio(f"sum_over_time({SERVICE_ERRORS}[{window}])", f"sum_over_time({SERVICE_REQUESTS}[{window}])")
    return f"({failed}) / on (service) {BUDGET}"


def alert() -> dict[str, Any]:
    """Return the alert; it fires once per service."""
    conditions = [f"({burn_rate(burn.long)} > {burn.rate:g} and {burn_rate(burn.short)} > {burn.rate:g})" for burn in BURNS]
    return {
        "alert": "GpuserveErrorBudgetBurn",
        "expr": " or ".join(conditions),
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "{{ $labels.service }} burns its error budget {{ $value | humanize }} times too fast",
            "description": (
                "Failed requests of {{ $labels.service }} spend the 30-day error budget at {{ $value | humanize }} times the "
                "rate it allows. See which version fails on the dashboard 'gpuserve', panel 'Errors', and its pods' logs."
            ),
        },
    }
