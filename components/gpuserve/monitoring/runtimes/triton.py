"""Triton Inference Server, metrics of release 2.51 on port 8002.

https://github.com/triton-inference-server/server/blob/r24.10/docs/user_guide/metrics.md

Durations are in microseconds. Failures count server-side faults by ``reason`` and exist at 0 from the start; a malformed
request is answered 400 and counted nowhere. Latency comes from summaries over a sliding minute, which the server exports only
with ``--metrics-config summary_latencies=true`` and the quantiles of `SUMMARY_QUANTILES`; there is no histogram.
"""

from gpuserve.monitoring.series import (
    BATCH,
    ERRORS,
    LATENCY,
    QUANTILES,
    QUEUE,
    REQUESTS,
    SERVICE_LABEL,
    RuntimeMetrics,
    per_pod,
    rate,
    ratio,
)

SUMMARY_QUANTILES = "0.5:0.05,0.95:0.005,0.99:0.001"
"""Value of ``--metrics-config summary_quantiles=``: quantile and allowed error of each."""

MICROSECONDS = "1e6"


def _expressions(window: str) -> dict[str, str]:
    succeeded = rate("nv_inference_request_success", window)
    failed = rate("nv_inference_request_failure", window)
    queued = rate("nv_inference_queue_duration_us", window)
    quantiles = "|".join(QUANTILES)
    summary = f'nv_inference_request_summary_us{{{SERVICE_LABEL}!="",quantile=~"{quantiles}"}}'
    latency = per_pod("max", summary, "quantile")
    return {
        REQUESTS: f"{succeeded} + {failed}",
        ERRORS: failed,
        LATENCY: f"{latency} / {MICROSECONDS}",
        QUEUE: ratio(f"{queued} / {MICROSECONDS}", succeeded),
        BATCH: ratio(rate("nv_inference_count", window), rate("nv_inference_exec_count", window)),
    }


METRICS = RuntimeMetrics("triton", _expressions)
