"""The rules over invented metrics, by Prometheus' own test program: the figures that they must come to."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring import MonitoringSpec, manifests, queries
from gpuserve_embedded.tools import ensure

pytestmark = pytest.mark.e2e

POD = 'namespace="n",pod="p",gpuserve_io_service="filetype",gpuserve_io_version="fp32",model="filetype",version="1"'
COMMON = 'namespace="n",pod="p",service="filetype",version="fp32"'
SCRAPES = 60
"""Scrapes every 15 s, a quarter of an hour in all."""


def spec() -> MonitoringSpec:
    source = MetricsSource("n", "filetype", "fp32", "triton", {}, "metrics")
    slo = {"service": "filetype", "availability": "99.9%", "latency_p95": "50ms"}
    return MonitoringSpec.parse({"sources": [source], "slos": [slo]})


def counter(name: str, per_second: float, more: str = "") -> dict[str, str]:
    return {"series": f"{name}{{{POD}{more}}}", "values": f"0+{per_second * 15:g}x{SCRAPES}"}


def triton(*, ok: float, failed: float = 0, queue: float = 0, batch: float = 1) -> list[dict[str, str]]:
    """Return what a server exports that answers ``ok`` requests per second, after ``queue`` seconds of waiting each."""
    summary = f'nv_inference_request_summary_us{{{POD},quantile="0.95"}}'
    return [
        counter("nv_inference_request_success", ok),
        counter("nv_inference_request_failure", failed, ',reason="BACKEND"'),
        counter("nv_inference_request_failure", 0, ',reason="REJECTED"'),
        counter("nv_inference_queue_duration_us", ok * queue * 1e6),
        counter("nv_inference_count", ok),
        counter("nv_inference_exec_count", ok / batch),
        {"series": summary, "values": f"20000x{SCRAPES}"},
    ]


def expected(name: str, value: float, labels: str = COMMON) -> dict[str, Any]:
    """Return a check of one series after ten minutes, rounded: floating-point sums end in odd digits."""
    return {"expr": f"round({name}, 1e-6)", "eval_time": "10m", "exp_samples": [{"labels": f"{{{labels}}}", "value": value}]}


def promtool(folder: Path, series: list[dict[str, str]], **tests: Any) -> None:
    (folder / "rules.yaml").write_text(manifests("platform", spec())["rules"]["data"]["gpuserve.yaml"])
    scenario = {"interval": "15s", "input_series": series, **tests}
    unit = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [scenario]}
    (folder / "test.yaml").write_text(yaml.safe_dump(unit))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]):
        done = subprocess.run([ensure("promtool", print), *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_triton_metrics_become_the_five_series(tmp_path: Path) -> None:
    checks = [
        expected("gpuserve:requests_per_second", 10.5),
        expected("gpuserve:errors_per_second", 0.5),
        expected("gpuserve:queue_seconds", 0.012),
        expected("gpuserve:batch_size", 4),
        expected("gpuserve:latency_seconds", 0.02, f'{COMMON},quantile="0.95"'),
        expected("gpuserve:slo_latency_seconds", 0.05, 'service="filetype"'),
    ]
    promtool(tmp_path, triton(ok=10, failed=0.5, queue=0.012, batch=4), promql_expr_test=checks)


def test_an_idle_server_has_no_queue_rather_than_none_known(tmp_path: Path) -> None:
    checks = [expected(f"gpuserve:{name}", 0) for name in ("requests_per_second", "queue_seconds", "batch_size")]
    promtool(tmp_path, triton(ok=0), promql_expr_test=checks)


def test_one_failure_in_fifty_burns_twenty_times_too_fast_and_alerts(tmp_path: Path) -> None:
    burn = expected("gpuserve:burn_rate:5m", 20, 'service="filetype"')
    fires = {
        "alertname": "GpuserveErrorBudgetBurn",
        "eval_time": "10m",
        "exp_alerts": [
            {
                "exp_labels": {"severity": "page", "service": "filetype"},
                "exp_annotations": {
                    "summary": "filetype burns its error budget 20 times too fast",
                    "description": (
                        "Failed requests of filetype spend the 30-day error budget at 20 times the rate it allows. See which "
                        "version fails on the dashboard 'gpuserve', panel 'Errors', and its pods' logs."
                    ),
                },
            },
        ],
    }
    promtool(tmp_path, triton(ok=9.8, failed=0.2), promql_expr_test=[burn], alert_rule_test=[fires])


def test_errors_within_the_budget_stay_quiet(tmp_path: Path) -> None:
    quiet = {"alertname": "GpuserveErrorBudgetBurn", "eval_time": "10m", "exp_alerts": []}
    promtool(tmp_path, triton(ok=999.5, failed=0.5), alert_rule_test=[quiet])


def test_every_query_parses(tmp_path: Path) -> None:
    for query in queries(spec()):
        done = subprocess.run(
            [ensure("promtool", print), "promql", "format", query, "--experimental"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
