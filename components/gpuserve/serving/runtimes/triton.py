"""NVIDIA Triton Inference Server.

Ports, health endpoints and options: https://github.com/triton-inference-server/server (``docs/customization_guide/deploy.md``,
``docs/protocol``, ``tritonserver --help``), the same from 2.51 to the current release.
"""

from gpuserve.serving.runtimes.base import RuntimePod, RuntimeRequest

MODEL_REPOSITORY = "/models"
"""Where a baked image holds its model repository."""

_USER = 1000
"""User ``triton-server`` of NVIDIA's images, and of the CPU base image."""

_SUMMARY_QUANTILES = "0.5:0.05,0.95:0.005,0.99:0.001"
"""Quantile and allowed error of each; the recording rules are about these (`gpuserve.monitoring.series.QUANTILES`)."""

_CACHE_BYTES = 64 << 20
"""Size of the response cache; Triton takes the memory when answers fill it, and only models that ask for the cache use it."""

_CARRIED_CODE = "--backend-config=tensorrt,version-compatible=true"
"""Without it Triton refuses an engine that carries code: https://github.com/triton-inference-server/tensorrt_backend (README)."""


class Triton:
    """Triton over a model repository in the image.

    Warm-up is declared in the repository: with ``model_warmup`` in ``config.pbtxt`` a model becomes ready only after its warm-up
    requests were answered, and with strict readiness the server becomes ready only when all models are. So the startup and
    readiness probes hold requests back until then, without a script.
    """

    name = "triton"

    def pod(self, request: RuntimeRequest) -> RuntimePod:
        """Return how Triton runs.

        NVIDIA's image is entered through its own entrypoint, which prepares CUDA for the node's driver and takes the program
        as its first argument. The CPU image has nothing to prepare.
        """
        options = (
            f"--model-repository={MODEL_REPOSITORY}",
            "--strict-readiness=true",
            "--exit-on-error=true",
            f"--exit-timeout-secs={request.exit_timeout}",
            # Triton's counters give no more of the request time than its mean.
            "--metrics-config=summary_latencies=true",
            f"--metrics-config=summary_quantiles={_SUMMARY_QUANTILES}",
            f"--cache-config=local,size={_CACHE_BYTES}",
            f"--allow-gpu-metrics={'false' if request.simulated else 'true'}",
            *((_CARRIED_CODE,) if request.version_compatible else ()),
        )
        return RuntimePod(
            protocol="v2",
            http_port=8000,
            grpc_port=8001,
            metrics_port=8002,
            metrics_path="/metrics",
            loaded_path=f"/v2/models/{request.model}/ready",
            ready_path="/v2/health/ready",
            live_path="/v2/health/live",
            user=_USER,
            # ONNX Runtime reports to Microsoft else, in builds that have it: https://github.com/microsoft/onnxruntime docs/Privacy.md
            env={"ORT_DISABLE_TELEMETRY": "1"},
            command=("tritonserver",) if request.simulated else (),
            args=options if request.simulated else ("tritonserver", *options),
        )
