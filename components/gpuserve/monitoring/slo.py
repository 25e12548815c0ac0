"""Multi-window, multi-burn-rate alerting, and alerts for a service, or a version of one, whose servers are gone.

The shares of the budget that `burns` names are meant at a traffic that is the same day and night. Of the few requests of a quiet hour a single failure is
many times the rate that the budget allows and no part of it to speak of, so fewer failures than `FEWEST_FAILURES` call nobody.

Servers count the requests, so a service without any has no errors either, and no burn rate: the second alert is for that. Where several
versions answer, a gateway goes on to send each its share: of one without a server that share fails, and the third alert is for that.
"""

from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.metadata import SERVICE_LABEL, VERSION_LABEL
from gpuserve.monitoring.burns import BURNS, WINDOWS
from gpuserve.monitoring.scope import STACK_LABEL
from gpuserve.monitoring.series import ERRORS, REQUESTS, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuserve.kubernetes.values import MetricsSource
    from gpuserve.monitoring.scope import Scope
    from gpuserve.monitoring.spec import SloSpec

BUDGET = "gpuserve:slo_error_budget"
"""Share of the requests that may fail, per service of a stack."""

LATENCY_OBJECTIVE = "gpuserve:slo_latency_seconds"
SERVICE_REQUESTS = "gpuserve:service_requests_per_second"
SERVICE_ERRORS = "gpuserve:service_errors_per_second"
SHADOW = "gpuserve:slo_shadow"
"""1 for each version whose answers no client gets."""

ANSWERING = "gpuserve:slo_version"
"""1 for each version whose answers clients get, of services that have several such."""

SILENCE = "5m"
"""How long a service is without a server before somebody is called: a restart and two scrapes of the longest window fit in."""

MEMORY = "6h"
"""How long ago a version may have had its last server to be missed. One that never had any gets no requests: routes wait for servers."""

FEWEST_FAILURES = 5
"""Failed requests within the long window that are worth a call."""


def burn_rate(window: str) -> str:
    """Return the name of the recorded burn rate: 1 spends the whole budget in exactly 30 days."""
    return f"gpuserve:burn_rate:{window}"


EACH = f"{STACK_LABEL}, service"
"""The labels of what is recorded per service."""


def answering(slo: "SloSpec", sources: "Iterable[MetricsSource]") -> list[str]:
    """Return the versions of a service whose answers clients get, where they are several: a single one's servers are the service's."""
    versions = {source.version for source in sources if source.service == slo.service} - set(slo.shadows)
    return sorted(versions) if slo.availability is not None and len(versions) > 1 else []


def objective_rules(slos: "Iterable[SloSpec]", sources: "Sequence[MetricsSource]", scope: "Scope") -> list[dict[str, Any]]:
    """Return the objectives as series, so that one rule serves every service."""
    rules: list[dict[str, Any]] = []
    for slo in slos:
        labels = {STACK_LABEL: scope.stack, "service": slo.service}
        if slo.availability is not None:
            budget = 1 - slo.availability.fraction
            rules.append({"record": BUDGET, "expr": f"vector({budget:.10g})", "labels": dict(labels)})
            versions = [{**labels, "version": version} for version in answering(slo, sources)]
            rules += [{"record": ANSWERING, "expr": "vector(1)", "labels": version} for version in versions]
        if slo.latency_p95 is not None:
            rules.append({"record": LATENCY_OBJECTIVE, "expr": f"vector({slo.latency_p95.seconds:g})", "labels": dict(labels)})
    return rules


def total_rules(slos: "Iterable[SloSpec]", scope: "Scope") -> list[dict[str, Any]]:
    """Return the rates of each service, over its pods, after the shadows that they leave out.

    They come before the burn rates because over a long window they are a handful of series, while pods come and go. They are to be
    recorded after every scrape: between the last scrape of a rate window and the first of the next, windows that only touch see nothing.
    All are of one group: its rules run in their order, so no total is ever without its shadows. Groups begin at times of their own.

    Args:
        slos: Objectives, of which those of an availability count.
        scope: Whose requests count.
    """
    whose = {STACK_LABEL: scope.stack}
    shadows: list[dict[str, Any]] = [
        {"record": SHADOW, "expr": "vector(1)", "labels": {**whose, "service": slo.service, "version": version}}
        for slo in slos
        if slo.availability is not None
        for version in sorted(set(slo.shadows))
    ]
    others = f" unless on (service, version) {SHADOW}{scope.services()}" if shadows else ""
    return [
        *shadows,
        {"record": SERVICE_REQUESTS, "expr": f"sum by (service) ({REQUESTS}{scope.pods()}{others})", "labels": dict(whose)},
        {"record": SERVICE_ERRORS, "expr": f"sum by (service) ({ERRORS}{scope.pods()}{others})", "labels": dict(whose)},
    ]


def burn_rules(scope: "Scope") -> list[dict[str, Any]]:
    """Return the burn rates. Their sums over time count each request as often as windows saw it, which is the same for all."""
    return [{"record": burn_rate(window), "expr": _burn(window, scope)} for window in WINDOWS]


def _burn(window: str, scope: "Scope") -> str:
    own = scope.services()
    failed = ratio(f"sum_over_time({SERVICE_ERRORS}{own}[{window}])", f"sum_over_time({SERVICE_REQUESTS}{own}[{window}])")
    return f"({failed}) / on ({EACH}) {BUDGET}{own}"


def alerts(scope: "Scope", *, every: int, several: bool) -> list[dict[str, Any]]:
    """Return the alerts; each fires once per service, or per version.

    Args:
        scope: Whose services.
        every: Seconds between two values of what `total_rules` record.
        several: Whether any service has several versions that answer clients.
    """
    return [_burning(scope, every), _silent(scope), *([_version_silent(scope)] if several else [])]


def _burning(scope: "Scope", every: int) -> dict[str, Any]:
    own = scope.services()
    conditions = [
        f"({burn_rate(burn.long)}{own} > {burn.rate:g} and {burn_rate(burn.short)}{own} > {burn.rate:g}"
        f" and round(sum_over_time({SERVICE_ERRORS}{own}[{burn.long}]) * {every}) >= {FEWEST_FAILURES})"
        for burn in BURNS
    ]
    return {
        "alert": "GpuserveErrorBudgetBurn",
        "expr": " or ".join(conditions),
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "{{ $labels.service }} of stack {{ $labels.stack }} burns its error budget {{ $value | humanize }} times too fast",
            "description": (
                "Failed requests of {{ $labels.service }} spend the 30-day error budget at {{ $value | humanize }} times the "
                "rate it allows. See which version fails on the dashboard 'gpuserve {{ $labels.stack }}', panel 'Errors', and its pods' logs."
            ),
        },
    }


def _silent(scope: "Scope") -> dict[str, Any]:
    """Return the alert of a service without a server; an idle one answers 0 requests per second, which is a series too."""
    own = scope.services()
    return {
        "alert": "GpuserveServiceSilent",
        "expr": f"{BUDGET}{own} unless on ({EACH}) {SERVICE_REQUESTS}{own}",
        "for": SILENCE,
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "No server of {{ $labels.service }} of stack {{ $labels.stack }} can be seen",
            "description": (
                f"For {SILENCE} Prometheus has had no metrics from any server that answers clients of {{{{ $labels.service }}}}: "
                "their pods are gone, do not start, or cannot be scraped. Requests that find no server are counted nowhere, so "
                f"the error budget does not show them. See `kubectl get pods -A -l {SERVICE_LABEL}={{{{ $labels.service }}}}`."
            ),
        },
    }


def _version_silent(scope: "Scope") -> dict[str, Any]:
    """Return the alert of a version that had servers and has none, while others of its service have."""
    own, pods = scope.services(), scope.pods()
    return {
        "alert": "GpuserveVersionSilent",
        "expr": (
            f"{ANSWERING}{own} and on (service, version) last_over_time({REQUESTS}{pods}[{MEMORY}])"
            f" unless on (service, version) {REQUESTS}{pods} and on ({EACH}) {SERVICE_REQUESTS}{own}"
        ),
        "for": SILENCE,
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "No server of version {{ $labels.version }} of {{ $labels.service }} of stack {{ $labels.stack }} can be seen",
            "description": (
                f"For {SILENCE} Prometheus has had no metrics from any server of version {{{{ $labels.version }}}} of "
                "{{ $labels.service }}, which had some before: its pods are gone, do not start, or cannot be scraped. The gateway "
                "still sends it its share of the requests, and those that find no server are counted nowhere. See `kubectl get pods -A "
                f"-l {SERVICE_LABEL}={{{{ $labels.service }}}},{VERSION_LABEL}={{{{ $labels.version }}}}`, or give its weight to another."
            ),
        },
    }
