"""The monitoring stack as a component under Pulumi's mocks."""

from typing import Any

from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.component import MonitoringStack

SOURCE = MetricsSource("gpuserve-local", "filetype", "fp32", "triton", {"app.kubernetes.io/name": "filetype"}, "metrics")
ARGS = {"sources": [SOURCE], "slos": [{"service": "filetype", "availability": "99.9%"}]}


def test_plain_prometheus_gets_two_configmaps(engine: Any) -> None:
    engine.run(lambda: MonitoringStack("platform", ARGS))
    assert engine.types() == {
        "platform": "gpuserve:index:MonitoringStack",
        "configmap/monitoring/gpuserve-rules-test-platform": "kubernetes:core/v1:ConfigMap",
        "configmap/monitoring/gpuserve-dashboard-test-platform": "kubernetes:core/v1:ConfigMap",
    }


def test_the_operator_gets_its_own_kinds(engine: Any) -> None:
    engine.run(lambda: MonitoringStack("platform", {**ARGS, "discovery": "operator", "dashboards": False}))
    assert engine.types() == {
        "platform": "gpuserve:index:MonitoringStack",
        "podmonitor/monitoring/gpuserve-test-platform": "kubernetes:monitoring.coreos.com/v1:PodMonitor",
        "prometheusrule/monitoring/gpuserve-test-platform": "kubernetes:monitoring.coreos.com/v1:PrometheusRule",
    }


def test_the_operators_objects_carry_labels_of_the_user(engine: Any) -> None:
    args = {**ARGS, "discovery": "operator", "labels": {"release": "prom"}}
    engine.run(lambda: MonitoringStack("platform", args))
    for name in ("podmonitor/monitoring/gpuserve-test-platform", "prometheusrule/monitoring/gpuserve-test-platform"):
        assert engine.resources[name].inputs["metadata"]["labels"]["release"] == "prom"


def test_the_queries_are_put_out(engine: Any) -> None:
    stack = engine.run(lambda: MonitoringStack("platform", ARGS))
    assert engine.outputs["platform"]["queries"] == stack.queries
    assert 'gpuserve:burn_rate:1h{stack="test-platform"}' in stack.queries
