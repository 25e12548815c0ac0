"""The five series that every runtime is reduced to, and how a runtime's own metrics become them.

Each has the labels ``namespace``, ``pod``, ``service`` and ``version``; nothing above them knows any runtime's names.

===============================  ==========================================================================================
``gpuserve:requests_per_second`` Requests of clients completed, failed ones included.
``gpuserve:errors_per_second``   Requests that failed through no fault of the client; 0 where none did.
``gpuserve:latency_seconds``     Time in the server, one series per ``quantile`` (``0.5``, ``0.95``, ``0.99``); ``NaN`` while idle.
``gpuserve:queue_seconds``       Average wait of a request for a free instance, of all models that it goes through; 0 while idle.
``gpuserve:batch_size``          Average inferences per execution of a model; 0 while idle.
===============================  ==========================================================================================

A client's request to an ensemble counts once, though each of the ensemble's models counts it too.

Latency is a set of quantiles because that is all a runtime may have: Triton 2.51 has no histogram of whole requests. A runtime
with a histogram gives the same quantiles. Quantiles of several pods cannot be combined into one; take their maximum.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.metadata import SERVICE_LABEL, VERSION_LABEL

if TYPE_CHECKING:
    from gpuserve.kubernetes.values import MetricsSource
    from gpuserve.monitoring.scope import Scope

REQUESTS = "gpuserve:requests_per_second"
ERRORS = "gpuserve:errors_per_second"
LATENCY = "gpuserve:latency_seconds"
QUEUE = "gpuserve:queue_seconds"
BATCH = "gpuserve:batch_size"

SERIES = (REQUESTS, ERRORS, LATENCY, QUEUE, BATCH)
QUANTILES = ("0.5", "0.95", "0.99")

LABELS = ("namespace", "pod", "service", "version")
RAW_SERVICE, RAW_VERSION = (re.sub("[^a-zA-Z0-9_]", "_", label) for label in (SERVICE_LABEL, VERSION_LABEL))
"""The servers' pod labels as Prometheus writes them on raw series (labelmap, or podTargetLabels of prometheus-operator)."""

ENSEMBLE = "gpuserve:ensemble"
"""1 for each version that is an ensemble, with the raw series' labels ``namespace`` and of the version, and the ensemble as ``model``."""

_ENSEMBLE_KEY = f"namespace, {RAW_SERVICE}, {RAW_VERSION}, model"


@dataclass(frozen=True)
class RuntimeMetrics:
    """How one runtime's metrics become the five series.

    Attributes:
        name: The runtime's name in a `MetricsSource`.
        expressions: From the rate window (``1m``), whether any version is an ensemble (see `ENSEMBLE`), and whose pods are meant, to the
            PromQL of each of `SERIES`.
    """

    name: str
    expressions: Callable[[str, bool, "Scope"], Mapping[str, str]]


def ensemble_rules(sources: Iterable["MetricsSource"]) -> list[dict[str, Any]]:
    """Return the rules that record `ENSEMBLE`."""
    return [
        {
            "record": ENSEMBLE,
            "expr": "vector(1)",
            "labels": {
                "namespace": source.namespace,
                RAW_SERVICE: source.service,
                RAW_VERSION: source.version,
                "model": source.ensemble,
            },
        }
        for source in sources
        if source.ensemble is not None
    ]


def of_ensemble(expression: str) -> str:
    """Return the raw series of `expression` that are an ensemble's own."""
    return f"{expression} and on ({_ENSEMBLE_KEY}) {ENSEMBLE}"


def of_models(expression: str) -> str:
    """Return the raw series of `expression` that are no ensemble's own."""
    return f"{expression} unless on ({_ENSEMBLE_KEY}) {ENSEMBLE}"


def rate(metric: str, window: str, scope: "Scope") -> str:
    """Return the per-second rate of a counter, of a stack's raw series."""
    return f"rate({metric}{raw(scope)}[{window}])"


def raw(scope: "Scope", *matchers: str) -> str:
    """Return a selector of the raw series of a stack's servers."""
    return scope.pods(f'{RAW_SERVICE}!=""', *matchers)


def per_pod(aggregate: str, expression: str, *extra: str) -> str:
    """Return ``expression`` reduced to the common labels and ``extra`` ones.

    A metric may have a ``version`` label of its own (Triton's model version), so the pods' labels are kept first and take the
    common names afterwards.
    """
    kept = ", ".join(("namespace", "pod", RAW_SERVICE, RAW_VERSION, *extra))
    reduced = f"{aggregate} by ({kept}) ({expression})"
    for common, label in (("service", RAW_SERVICE), ("version", RAW_VERSION)):
        reduced = f'label_replace({reduced}, "{common}", "$1", "{label}", "(.+)")'
    return f"{aggregate} by ({', '.join((*LABELS, *extra))}) ({reduced})"


def ratio(part: str, whole: str) -> str:
    """Return ``part / whole``, 0 where both are 0: an idle server has no queue, and a scaler must see that."""
    return f"{part} / clamp_min({whole}, 1e-9)"
