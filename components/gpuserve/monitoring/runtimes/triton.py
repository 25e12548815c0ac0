"""Triton Inference Server, metrics of release 2.51 on port 8002.

https://github.com/triton-inference-server/server/blob/r24.10/docs/user_guide/metrics.md

Durations are in microseconds. Failures count server-side faults by ``reason`` and exist at 0 from the start; a malformed
request is answered 400 and counted nowhere. Latency comes from summaries over a sliding minute, which the server exports only
with ``--metrics-config summary_latencies=true``, of the quantiles that it is told (`gpuserve.serving` tells it); there is no histogram.

Cancelled requests (``reason="CANCELED"``) count as failed: whether a client lost interest, or it or the gateway gave up on a server that is too
slow, is not told apart, and the second must not be missed.

An ensemble has metrics like any model, and its models have theirs. Its requests and their latency are what clients see; it counts each
failed one twice, when it answers and when it is done. It executes nothing itself and has no queue, so waits and batches are its models'.
"""

from gpuserve.monitoring.scope import Scope
from gpuserve.monitoring.series import (
    BATCH,
    ERRORS,
    LATENCY,
    QUANTILES,
    QUEUE,
    REQUESTS,
    RuntimeMetrics,
    of_ensemble,
    of_models,
    per_pod,
    rate,
    ratio,
    raw,
)

MICROSECONDS = "1e6"

_FAILURE_COUNTS = 2
"""How often an ensemble counts a failed request."""


def _expressions(window: str, ensembles: bool, scope: Scope) -> dict[str, str]:
    succeeded = per_pod("sum", _asked(rate("nv_inference_request_success", window, scope), ensembles))
    failed = per_pod("sum", _asked(rate("nv_inference_request_failure", window, scope), ensembles, _FAILURE_COUNTS))
    queued = per_pod("sum", rate("nv_inference_queue_duration_us", window, scope))
    inferences, executions = (
        per_pod("sum", of_models(counted) if ensembles else counted)
        for counted in (rate("nv_inference_count", window, scope), rate("nv_inference_exec_count", window, scope))
    )
    quantiles = "|".join(QUANTILES)
    summary = "nv_inference_request_summary_us" + raw(scope, f'quantile=~"{quantiles}"')
    latency = per_pod("max", _asked(summary, ensembles), "quantile")
    return {
        REQUESTS: f"{succeeded} + {failed}",
        ERRORS: failed,
        LATENCY: f"{latency} / {MICROSECONDS}",
        QUEUE: ratio(f"{queued} / {MICROSECONDS}", succeeded),
        BATCH: ratio(inferences, executions),
    }


def _asked(series: str, ensembles: bool, counts: int = 1) -> str:
    """Return the raw series of what clients asked: those of a pod's ensemble, which counts each ``counts`` times, else all.

    What the pod itself exports decides, so that those from before a model became an ensemble still count.
    """
    if not ensembles:
        return series
    own = of_ensemble(series) if counts == 1 else f"({of_ensemble(series)}) / {counts}"
    return f"{own} or on (namespace, pod) {series}"


METRICS = RuntimeMetrics("triton", _expressions)
