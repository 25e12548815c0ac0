"""Two stacks on one Prometheus, each with a service of the same name: neither records, or answers for, what the other does."""

from pathlib import Path
from typing import Any

import pytest
from test_promtool import POD, elsewhere, expected, promtool_checks, quiet, triton

from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.manifests import manifests
from gpuserve.monitoring.spec import MonitoringSpec

pytestmark = pytest.mark.e2e

STAGING, PROD = (POD.replace('namespace="n"', f'namespace="{name}"') for name in ("ml-staging", "ml-prod"))


def rules(folder: Path, stack: str, *, availability: str, shadows: tuple[str, ...] = ()) -> str:
    source = MetricsSource(f"ml-{stack}", "filetype", "fp32", "triton", {}, "metrics")
    slo = {"service": "filetype", "availability": availability, "latency_p95": "50ms", "shadows": shadows}
    spec = MonitoringSpec.parse({"stack": stack, "sources": [source], "slos": [slo]})
    ((name, text),) = manifests("platform", spec)["rules"]["data"].items()
    (folder / name).write_text(text)
    return name


def of(stack: str) -> str:
    return f'stack="{stack}",service="filetype"'


def pod(stack: str) -> str:
    return f'namespace="ml-{stack}",pod="p",service="filetype",version="fp32"'


def test_a_stack_neither_records_nor_answers_for_another(tmp_path: Path) -> None:
    files = [
        rules(tmp_path, "staging", availability="99%", shadows=("int8",)),
        rules(tmp_path, "prod", availability="99.9%"),
    ]
    assert len(set(files)) == len(files), "both lie in one folder"
    series = [*elsewhere(STAGING, triton(ok=5, failed=5)), *elsewhere(PROD, triton(ok=100))]
    both = {
        name: [{"labels": f"{{{labels(stack)}}}", "value": value} for stack, value in (("staging", first), ("prod", second))]
        for name, labels, first, second in (
            ("gpuserve:requests_per_second", pod, 10, 100),
            ("gpuserve:service_requests_per_second", of, 10, 100),
            ("gpuserve:service_errors_per_second", of, 5, 0),
            ("gpuserve:slo_error_budget", of, 0.01, 0.001),
            ("gpuserve:burn_rate:5m", of, 50, 0),
        )
    }
    checks = [{**expected(name, 0), "exp_samples": samples} for name, samples in both.items()]
    burning: dict[str, Any] = {
        "expr": 'count by (stack) (ALERTS{alertname="GpuserveErrorBudgetBurn",alertstate="firing"})',
        "eval_time": "10m",
        "exp_samples": [{"labels": '{stack="staging"}', "value": 1}],
    }
    calm = quiet("GpuserveServiceSilent", "10m")
    promtool_checks(tmp_path, files, series, promql_expr_test=[*checks, burning], alert_rule_test=calm)


def test_servers_of_another_stack_do_not_stand_in_for_those_that_are_gone(tmp_path: Path) -> None:
    files = [rules(tmp_path, stack, availability="99.9%") for stack in ("staging", "prod")]
    silent: dict[str, Any] = {
        "expr": 'count by (stack) (ALERTS{alertname="GpuserveServiceSilent",alertstate="firing"})',
        "eval_time": "12m",
        "exp_samples": [{"labels": '{stack="prod"}', "value": 1}],
    }
    promtool_checks(tmp_path, files, elsewhere(STAGING, triton(ok=10)), promql_expr_test=[silent])


def test_a_shadow_of_one_stack_is_none_of_the_other(tmp_path: Path) -> None:
    files = [rules(tmp_path, "staging", availability="99.9%", shadows=("fp32",)), rules(tmp_path, "prod", availability="99.9%")]
    series = [*elsewhere(STAGING, triton(ok=10)), *elsewhere(PROD, triton(ok=100))]
    promtool_checks(
        tmp_path, files, series, promql_expr_test=[expected("gpuserve:service_requests_per_second", 100, of("prod"))]
    )
