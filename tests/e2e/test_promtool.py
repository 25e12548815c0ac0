"""The rules over invented metrics, by Prometheus' own test program: the figures that they must come to."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.manifests import manifests, queries
from gpuserve.monitoring.spec import MonitoringSpec
from gpuserve_embedded.tools import ensure

pytestmark = pytest.mark.e2e

POD = 'namespace="n",pod="p",gpuserve_io_service="filetype",gpuserve_io_version="fp32",model="filetype",version="1"'
NEXT_POD = POD.replace('pod="p"', 'pod="r"')
WHOLE, RANK = (POD.replace('model="filetype"', f'model="{name}"') for name in ("whole", "rank"))
SHADOW_POD = POD.replace('pod="p"', 'pod="q"').replace("fp32", "int8")
COMMON = 'namespace="n",pod="p",service="filetype",version="fp32"'
SERVICE = 'stack="main",service="filetype"'
SCRAPES = 60
"""Scrapes every 15 s, a quarter of an hour in all."""


def spec(*shadows: str, ensemble: str | None = None) -> MonitoringSpec:
    source = MetricsSource("n", "filetype", "fp32", "triton", {}, "metrics", ensemble=ensemble)
    slo = {"service": "filetype", "availability": "99.9%", "latency_p95": "50ms", "shadows": shadows}
    return MonitoringSpec.parse({"sources": [source], "slos": [slo]})


def triton(*, ok: float, failed: float = 0, queue: float = 0, batch: float = 1, scrapes: int = SCRAPES) -> list[dict[str, str]]:
    """Return what a server exports that answers ``ok`` requests per second, after ``queue`` seconds of waiting each.

    Its series end after ``scrapes``, as those of a pod that is gone.
    """

    def counter(name: str, per_second: float, more: str = "") -> dict[str, str]:
        return {"series": f"{name}{{{POD}{more}}}", "values": f"0+{per_second * 15:g}x{scrapes} stale"}

    summary = f'nv_inference_request_summary_us{{{POD},quantile="0.95"}}'
    return [
        counter("nv_inference_request_success", ok),
        counter("nv_inference_request_failure", failed, ',reason="BACKEND"'),
        counter("nv_inference_request_failure", 0, ',reason="REJECTED"'),
        counter("nv_inference_queue_duration_us", ok * queue * 1e6),
        counter("nv_inference_count", ok),
        counter("nv_inference_exec_count", ok / batch),
        {"series": summary, "values": f"20000x{scrapes} stale"},
    ]


def elsewhere(pod: str, series: list[dict[str, str]], after: int = 0) -> list[dict[str, str]]:
    """Return what another pod exports that starts ``after`` so many scrapes and does the same."""
    before = f"_x{after} " if after else ""
    return [{"series": line["series"].replace(POD, pod), "values": before + line["values"]} for line in series]


def expected(name: str, value: float, labels: str = COMMON) -> dict[str, Any]:
    """Return a check of one series after ten minutes, rounded: floating-point sums end in odd digits."""
    return {"expr": f"round({name}, 1e-6)", "eval_time": "10m", "exp_samples": [{"labels": f"{{{labels}}}", "value": value}]}


def quiet(alert: str, *times: str) -> list[dict[str, Any]]:
    """Return checks that an alert does not fire."""
    return [{"alertname": alert, "eval_time": time, "exp_alerts": []} for time in times]


def silent(time: str) -> dict[str, Any]:
    """Return a check that the service is known to have no server."""
    told = {
        "summary": "No server of filetype of stack main can be seen",
        "description": (
            "For 5m Prometheus has had no metrics from any server that answers clients of filetype: their pods are gone, do not "
            "start, or cannot be scraped. Requests that find no server are counted nowhere, so the error budget does not show "
            "them. See `kubectl get pods -A -l gpuserve.io/service=filetype`."
        ),
    }
    alert = {"exp_labels": {"severity": "page", "service": "filetype", "stack": "main"}, "exp_annotations": told}
    return {"alertname": "GpuserveServiceSilent", "eval_time": time, "exp_alerts": [alert]}


def promtool(
    folder: Path, series: list[dict[str, str]], *, shadows: tuple[str, ...] = (), ensemble: str | None = None, **tests: Any
) -> None:
    wanted = spec(*shadows, ensemble=ensemble)
    (folder / "rules.yaml").write_text(manifests("platform", wanted)["rules"]["data"]["gpuserve-main.yaml"])
    promtool_checks(folder, ["rules.yaml"], series, **tests)


def promtool_checks(folder: Path, rules: list[str], series: list[dict[str, str]], **tests: Any) -> None:
    """Let Prometheus' own program run files of rules over ``series``, and compare with what the tests expect."""
    scenario = {"interval": "15s", "input_series": series, **tests}
    unit = {"rule_files": rules, "evaluation_interval": "15s", "tests": [scenario]}
    (folder / "test.yaml").write_text(yaml.safe_dump(unit))
    for command in (["check", "rules", *rules], ["test", "rules", "test.yaml"]):
        done = subprocess.run([ensure("promtool", print), *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_triton_metrics_become_the_five_series(tmp_path: Path) -> None:
    checks = [
        expected("gpuserve:requests_per_second", 10.5),
        expected("gpuserve:errors_per_second", 0.5),
        expected("gpuserve:queue_seconds", 0.012),
        expected("gpuserve:batch_size", 4),
        expected("gpuserve:latency_seconds", 0.02, f'{COMMON},quantile="0.95"'),
        expected("gpuserve:slo_latency_seconds", 0.05, SERVICE),
    ]
    promtool(tmp_path, triton(ok=10, failed=0.5, queue=0.012, batch=4), promql_expr_test=checks)


def ensemble() -> list[dict[str, str]]:
    """Return what a server exports that answers 40 requests per second with an ensemble of two models, and fails one more.

    The ensemble counts each failed one twice; its models count the requests as theirs, and one of them is asked alone too.
    """
    whole = [{**line, "values": line["values"].replace("20000x", "90000x")} for line in triton(ok=40, failed=2)]
    models = [*triton(ok=41, queue=0.012, batch=4), *elsewhere(RANK, triton(ok=40, failed=1, queue=0.041, batch=8))]
    return [*elsewhere(WHOLE, whole), *models]


def test_a_request_to_an_ensemble_counts_once(tmp_path: Path) -> None:
    checks = [
        expected("gpuserve:requests_per_second", 41),
        expected("gpuserve:errors_per_second", 1),
        expected("gpuserve:queue_seconds", 0.0533),
        expected("gpuserve:batch_size", 5.311475),
        expected("gpuserve:latency_seconds", 0.09, f'{COMMON},quantile="0.95"'),
        expected("gpuserve:service_requests_per_second", 41, SERVICE),
    ]
    promtool(tmp_path, ensemble(), ensemble="whole", promql_expr_test=checks)


def test_an_idle_ensemble_has_no_queue_rather_than_none_known(tmp_path: Path) -> None:
    checks = [expected(f"gpuserve:{name}", 0) for name in ("requests_per_second", "queue_seconds", "batch_size")]
    promtool(tmp_path, [*elsewhere(WHOLE, triton(ok=0)), *triton(ok=0)], ensemble="whole", promql_expr_test=checks)


def test_beside_an_ensemble_other_versions_and_older_pods_count_all_they_answer(tmp_path: Path) -> None:
    series = [*ensemble(), *elsewhere(NEXT_POD, triton(ok=10, failed=1)), *elsewhere(SHADOW_POD, triton(ok=20, failed=2))]
    older, shadow = COMMON.replace('"p"', '"r"'), COMMON.replace('"p"', '"q"').replace("fp32", "int8")
    checks = [
        expected(f"gpuserve:{name}{{{labels}}}", value, labels)
        for name, values in (
            ("requests_per_second", (41, 11, 22)),
            ("errors_per_second", (1, 1, 2)),
            ("batch_size", (5.311475, 1, 1)),
        )
        for labels, value in zip((COMMON, older, shadow), values, strict=True)
    ]
    promtool(tmp_path, series, ensemble="whole", promql_expr_test=checks)


def test_an_idle_server_has_no_queue_rather_than_none_known(tmp_path: Path) -> None:
    checks = [expected(f"gpuserve:{name}", 0) for name in ("requests_per_second", "queue_seconds", "batch_size")]
    promtool(tmp_path, triton(ok=0), promql_expr_test=checks)


def test_one_failure_in_fifty_burns_twenty_times_too_fast_and_alerts(tmp_path: Path) -> None:
    burn = expected("gpuserve:burn_rate:5m", 20, SERVICE)
    fires = {
        "alertname": "GpuserveErrorBudgetBurn",
        "eval_time": "10m",
        "exp_alerts": [
            {
                "exp_labels": {"severity": "page", "service": "filetype", "stack": "main"},
                "exp_annotations": {
                    "summary": "filetype of stack main burns its error budget 20 times too fast",
                    "description": (
                        "Failed requests of filetype spend the 30-day error budget at 20 times the rate it allows. See which "
                        "version fails on the dashboard 'gpuserve main', panel 'Errors', and its pods' logs."
                    ),
                },
            },
        ],
    }
    promtool(tmp_path, triton(ok=9.8, failed=0.2), promql_expr_test=[burn], alert_rule_test=[fires])


@pytest.mark.parametrize("scrape", range(4))
def test_a_client_that_comes_once_a_minute_is_counted_whenever_it_comes(tmp_path: Path, scrape: int) -> None:
    failures = [minute + (at >= scrape) for minute in range(SCRAPES // 4) for at in range(4)]
    succeeded, failed, *others = triton(ok=0)
    series = [succeeded, {**failed, "values": " ".join(map(str, failures))}, *others]
    check = expected("avg_over_time(gpuserve:service_errors_per_second[8m]) * 60", 1, SERVICE)
    promtool(tmp_path, series, promql_expr_test=[check, expected("gpuserve:burn_rate:5m", 1000, SERVICE)])


@pytest.mark.parametrize(("failures", "calls"), [(1, False), (4, False), (5, True), (10, True)])
def test_a_handful_of_failures_of_a_quiet_night_calls_nobody(tmp_path: Path, failures: int, calls: bool) -> None:
    succeeded, failed, *others = triton(ok=1 / 15)
    counted = [max(0, min(scrape - 40 + failures, failures)) for scrape in range(SCRAPES)]
    series = [succeeded, {**failed, "values": " ".join(map(str, counted))}, *others]
    firing = {
        "expr": 'count(ALERTS{alertname="GpuserveErrorBudgetBurn",alertstate="firing"}) or vector(0)',
        "eval_time": "12m",
        "exp_samples": [{"labels": "{}", "value": float(calls)}],
    }
    burns = {
        "expr": "gpuserve:burn_rate:1h > bool 14.4",
        "eval_time": "12m",
        "exp_samples": [{"labels": f"{{{SERVICE}}}", "value": 1}],
    }
    promtool(tmp_path, series, promql_expr_test=[burns, firing])


def test_errors_within_the_budget_stay_quiet(tmp_path: Path) -> None:
    promtool(tmp_path, triton(ok=999.5, failed=0.5), alert_rule_test=quiet("GpuserveErrorBudgetBurn", "10m"))


def test_a_service_whose_last_server_is_gone_calls_somebody(tmp_path: Path) -> None:
    checks = [*quiet("GpuserveServiceSilent", "4m", "9m"), silent("12m"), *quiet("GpuserveErrorBudgetBurn", "12m")]
    promtool(tmp_path, triton(ok=10, scrapes=16), alert_rule_test=checks)


def test_a_service_whose_servers_never_came_calls_somebody(tmp_path: Path) -> None:
    promtool(tmp_path, [], alert_rule_test=[*quiet("GpuserveServiceSilent", "4m"), silent("12m")])


def test_an_idle_server_calls_nobody(tmp_path: Path) -> None:
    promtool(tmp_path, triton(ok=0), alert_rule_test=quiet("GpuserveServiceSilent", "1m", "6m", "12m"))


def test_a_restart_shorter_than_the_alerts_patience_calls_nobody(tmp_path: Path) -> None:
    series = [*triton(ok=10, scrapes=16), *elsewhere(NEXT_POD, triton(ok=10), after=32)]
    promtool(tmp_path, series, alert_rule_test=quiet("GpuserveServiceSilent", "7m", "10m", "15m"))


def test_copies_that_a_shadow_fails_burn_no_budget(tmp_path: Path) -> None:
    series = [*triton(ok=10), *elsewhere(SHADOW_POD, triton(ok=0, failed=10))]
    checks = [
        expected("gpuserve:service_requests_per_second", 10, SERVICE),
        expected("gpuserve:service_errors_per_second", 0, SERVICE),
        expected("gpuserve:burn_rate:5m", 0, SERVICE),
    ]
    calm = quiet("GpuserveErrorBudgetBurn", "10m")
    promtool(tmp_path, series, shadows=("int8",), promql_expr_test=checks, alert_rule_test=calm)


def test_a_shadow_does_not_stand_in_for_a_server(tmp_path: Path) -> None:
    series = [*triton(ok=10, scrapes=16), *elsewhere(SHADOW_POD, triton(ok=10))]
    promtool(tmp_path, series, shadows=("int8",), alert_rule_test=[silent("12m")])


def test_every_query_parses(tmp_path: Path) -> None:
    for query in {*queries(spec("int8")), *queries(spec(ensemble="whole"))}:
        done = subprocess.run(
            [ensure("promtool", print), "promql", "format", query, "--experimental"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
