"""A version whose servers are gone while others of its service answer: its share of the requests fails, and nobody counts it."""

from pathlib import Path
from typing import Any

import pytest
from test_promtool import POD, elsewhere, promtool_checks, triton

from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.manifests import manifests
from gpuserve.monitoring.spec import MonitoringSpec

pytestmark = pytest.mark.e2e

CANARY = POD.replace('pod="p"', 'pod="c"').replace("fp32", "int8")
NEXT_CANARY = CANARY.replace('pod="c"', 'pod="d"')
ALERT = "GpuserveVersionSilent"


def run(folder: Path, series: list[dict[str, str]], *checks: dict[str, Any], **slo: Any) -> None:
    sources = [MetricsSource("n", "filetype", version, "triton", {}, "metrics") for version in ("fp32", "int8")]
    spec = MonitoringSpec.parse({"sources": sources, "slos": [{"service": "filetype", "availability": "99.9%", **slo}]})
    (folder / "rules.yaml").write_text(manifests("platform", spec)["rules"]["data"]["gpuserve-main.yaml"])
    promtool_checks(folder, ["rules.yaml"], series, promql_expr_test=list(checks))


def firing(alert: str, time: str, *labels: str) -> dict[str, Any]:
    """Return a check of which alerts of a name fire, by service and version."""
    samples = [{"labels": f"{{{each}}}", "value": 1} for each in labels]
    expr = f'count by (service, version) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return {"expr": expr, "eval_time": time, "exp_samples": samples}


def test_a_version_without_a_server_calls_somebody_though_another_answers(tmp_path: Path) -> None:
    series = [*triton(ok=10), *elsewhere(CANARY, triton(ok=1, scrapes=16))]
    gone = 'service="filetype",version="int8"'
    run(tmp_path, series, firing(ALERT, "9m"), firing(ALERT, "12m", gone), firing("GpuserveServiceSilent", "12m"))


def test_where_all_are_gone_it_is_the_service_that_is(tmp_path: Path) -> None:
    series = [*triton(ok=10, scrapes=16), *elsewhere(CANARY, triton(ok=1, scrapes=16))]
    run(tmp_path, series, firing(ALERT, "12m"), firing("GpuserveServiceSilent", "12m", 'service="filetype"'))


def test_a_canary_that_does_not_run_yet_gets_no_requests_and_calls_nobody(tmp_path: Path) -> None:
    run(tmp_path, triton(ok=10), firing(ALERT, "12m"))


def test_a_shadow_may_go(tmp_path: Path) -> None:
    series = [*triton(ok=10), *elsewhere(CANARY, triton(ok=1, scrapes=16))]
    run(tmp_path, series, firing(ALERT, "12m"), shadows=["int8"])


def test_a_new_server_in_time_calls_nobody(tmp_path: Path) -> None:
    back = elsewhere(NEXT_CANARY, triton(ok=1), after=32)
    series = [*triton(ok=10), *elsewhere(CANARY, triton(ok=1, scrapes=16)), *back]
    run(tmp_path, series, *(firing(ALERT, time) for time in ("7m", "9m", "12m", "14m")))
