"""One file per runtime: its metric names, mapped to the common series."""

from collections.abc import Mapping

from gpuserve.monitoring.runtimes import triton
from gpuserve.monitoring.series import RuntimeMetrics

RUNTIMES: Mapping[str, RuntimeMetrics] = {"triton": triton.METRICS}
