"""Rules, dashboard and scraping: the same few objects for any number of services."""

import json
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.cli.stack import open_stack
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.adapter import adapter_rules
from gpuserve.monitoring.manifests import manifests, queries
from gpuserve.monitoring.series import SERIES
from gpuserve.monitoring.spec import MonitoringSpec


def source(service: str = "filetype", version: str = "fp32", **changes: Any) -> MetricsSource:
    selector = {"app.kubernetes.io/instance": f"{service}-{version}", "app.kubernetes.io/managed-by": "gpuserve"}
    fields = {"namespace": "gpuserve-local", "runtime": "triton", "selector": selector, "port": "metrics", **changes}
    return MetricsSource(service=service, version=version, **fields)


def stack(**changes: Any) -> MonitoringSpec:
    slo = {"service": "filetype", "availability": "99.9%", "latency_p95": "50ms"}
    given = {"sources": [source(), source(version="int8")], "slos": [slo], "window": "15s", **changes}
    watched = {one.service for one in given["sources"]}
    promised = sorted({one["service"] for one in given["slos"]} - watched)
    return MonitoringSpec.parse({**given, "sources": [*given["sources"], *map(source, promised)]})


def groups(spec: MonitoringSpec) -> dict[str, Any]:
    rules = manifests("platform", spec)["rules"]
    found = rules["spec"] if "spec" in rules else yaml.safe_load(next(iter(rules["data"].values())))
    return {group["name"]: group for group in found["groups"]}


def records(spec: MonitoringSpec) -> dict[str, str]:
    return {rule["record"]: rule["expr"] for group in groups(spec).values() for rule in group["rules"] if "record" in rule}


def alerts(spec: MonitoringSpec) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in groups(spec)["gpuserve-slo"]["rules"] if "alert" in rule}


def board(spec: MonitoringSpec) -> dict[str, Any]:
    return json.loads(next(iter(manifests("platform", spec)["dashboard"]["data"].values())))


def test_a_runtime_gives_all_five_series_with_the_common_labels() -> None:
    group = groups(stack())["gpuserve-triton"]
    assert [rule["record"] for rule in group["rules"]] == list(SERIES)
    assert group["interval"] == "3s"
    for rule in group["rules"]:
        assert "by (namespace, pod, service, version" in rule["expr"]
        assert 'gpuserve_io_service!=""' in rule["expr"]
    assert "[15s]" in group["rules"][0]["expr"]


def test_every_series_that_a_query_reads_is_recorded_or_exported() -> None:
    spec = stack()
    known = set(records(spec)) | {"up"}
    for query in queries(spec):
        named = set(re.findall(r"\bgpuserve:[a-z0-9_:]+", query))
        assert named <= known, query
        assert named or "nv_inference_" in query or query.startswith(("up", "vector", "sum by (gpuserve_io_service"))


def test_burn_rates_are_those_of_the_sre_workbook() -> None:
    alert = alerts(stack())["GpuserveErrorBudgetBurn"]
    conditions = re.findall(r'gpuserve:burn_rate:(\w+){stack="main"} > ([\d.]+)', alert["expr"])
    assert conditions == [("1h", "14.4"), ("5m", "14.4"), ("6h", "6"), ("30m", "6")]
    assert records(stack())["gpuserve:slo_error_budget"] == "vector(0.001)"


@pytest.mark.parametrize("window", [5, 15, 60, 300])
def test_failures_are_counted_by_the_interval_that_they_are_recorded_at(window: int) -> None:
    spec = stack(window=f"{window}s")
    counted = re.findall(r"\* (\d+)\) >= 5", alerts(spec)["GpuserveErrorBudgetBurn"]["expr"])
    assert {f"{seconds}s" for seconds in counted} == {groups(spec)["gpuserve-services"]["interval"]}


@pytest.mark.parametrize("window", [4, 15, 60, 120, 300])
def test_no_request_falls_between_two_windows_of_a_rate(window: int) -> None:
    spec = stack(window=f"{window}s")
    monitor = manifests("platform", stack(window=f"{window}s", discovery="operator"))["pod-monitor"]
    scrape = int(monitor["spec"]["podMetricsEndpoints"][0]["interval"].removesuffix("s"))
    for group in groups(spec).values():
        for rule in group["rules"]:
            if rule.get("record") in {*SERIES, "gpuserve:service_requests_per_second", "gpuserve:service_errors_per_second"}:
                # Windows overlap by a scrape or more: an increase is that of two scrapes in the same window.
                assert int(group["interval"].removesuffix("s")) + scrape <= window, rule["record"]


def test_one_alert_watches_for_services_without_a_server() -> None:
    several = stack(slos=[{"service": name, "availability": "99.9%"} for name in ("filetype", "other", "third")])
    silent = alerts(several)["GpuserveServiceSilent"]
    assert silent == alerts(stack())["GpuserveServiceSilent"]
    assert silent["for"] == "5m"
    assert silent["labels"] == alerts(several)["GpuserveErrorBudgetBurn"]["labels"]
    assert {f'gpuserve:{name}{{stack="main"}}' for name in ("slo_error_budget", "service_requests_per_second")} <= set(
        queries(several)
    )


def test_versions_that_answer_no_client_count_for_no_objective() -> None:
    slo = {"service": "filetype", "availability": "99.9%", "shadows": ["int8", "int4", "int8"]}
    spec = stack(slos=[slo, {"service": "other", "availability": "99%"}])
    first, second, *totals = groups(spec)["gpuserve-services"]["rules"]
    assert [rule["record"] for rule in totals] == [f"gpuserve:service_{name}_per_second" for name in ("requests", "errors")]
    for shadow, version in ((first, "int4"), (second, "int8")):
        labels = {"stack": "main", "service": "filetype", "version": version}
        assert shadow == {"record": "gpuserve:slo_shadow", "expr": "vector(1)", "labels": labels}, (
            "before the totals, in one group"
        )
    plain = records(stack())
    for name in ("requests", "errors"):
        summed = f'gpuserve:{name}_per_second{{namespace=~"gpuserve-local"}}'
        left = f'sum by (service) ({summed} unless on (service, version) gpuserve:slo_shadow{{stack="main"}})'
        assert records(spec)[f"gpuserve:service_{name}_per_second"] == left
        assert plain[f"gpuserve:service_{name}_per_second"] == f"sum by (service) ({summed})"


def test_shadows_of_a_latency_alone_add_no_rules() -> None:
    fast = {"service": "fast", "latency_p95": "5ms"}
    promised = {"service": "filetype", "availability": "99.9%"}
    assert groups(stack(slos=[promised, {**fast, "shadows": ["int8"]}])) == groups(stack(slos=[promised, fast]))


def test_a_version_without_weight_is_a_shadow_of_its_service(sandbox: Any) -> None:
    def shadows(*weights: int) -> tuple[str, ...]:
        for version, weight in zip(sandbox.service["versions"], weights, strict=True):
            version["weight"] = weight
        sandbox.write()
        (slo,) = open_stack("local", sandbox.stacks).plan.monitoring["platform"].slos
        return slo.shadows

    assert shadows(100, 0) == ("basic",)
    assert shadows(99, 1) == ()


def test_without_objectives_there_is_nothing_to_alert_on() -> None:
    assert list(groups(stack(slos=[]))) == ["gpuserve-triton"]
    assert "alert" not in json.dumps(groups(stack(alerts=False)))
    latency_only = stack(slos=[{"service": "filetype", "latency_p95": "50ms"}])
    assert "gpuserve-slo" not in groups(latency_only)
    assert not any("burn_rate" in query for query in queries(latency_only))


def test_a_model_that_promises_a_latency_alone_is_drawn_with_it(sandbox: Any) -> None:
    sandbox.model["slo"] = {"latency_p95": "50ms"}
    sandbox.write()
    spec = open_stack("local", sandbox.stacks).plan.monitoring["platform"]
    (objective,) = groups(spec)["gpuserve-objectives"]["rules"]
    assert objective == {
        "record": "gpuserve:slo_latency_seconds",
        "expr": "vector(0.05)",
        "labels": {"stack": "local", "service": "tiny"},
    }
    (latency,) = [panel for panel in board(spec)["panels"] if panel["title"] == "Latency"]
    assert "gpuserve:slo_latency_seconds" in latency["targets"][-1]["expr"]
    assert "gpuserve-slo" not in groups(spec)


def test_beside_a_budget_a_latency_alone_alerts_nobody() -> None:
    slos = [{"service": "filetype", "availability": "99.9%"}, {"service": "fast", "latency_p95": "5ms"}]
    objectives = groups(stack(slos=slos, sources=[source()]))["gpuserve-objectives"]["rules"]
    assert [(rule["record"], rule["labels"]["service"]) for rule in objectives] == [
        ("gpuserve:slo_error_budget", "filetype"),
        ("gpuserve:slo_latency_seconds", "fast"),
    ]


def test_rules_grow_by_two_lines_per_service_and_the_dashboard_not_at_all() -> None:
    def of(count: int) -> tuple[int, int]:
        names = [f"s{index}" for index in range(count)]
        slos = [{"service": name, "availability": "99%", "latency_p95": "1s"} for name in names]
        spec = stack(sources=[source(name) for name in names], slos=slos)
        return sum(len(group["rules"]) for group in groups(spec).values()), len(queries(spec))

    assert of(11)[0] - of(1)[0] == 20
    objects = manifests("platform", stack(sources=[source(f"s{i}") for i in range(50)], discovery="operator"))
    assert len(objects) == 3


def test_dashboard_chooses_service_and_version() -> None:
    dashboard = board(stack())
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "service", "version"]
    titles = [panel["title"] for panel in dashboard["panels"]]
    wanted = ["Requests", "Errors", "Latency", "Queue", "Batch size", "Replicas", "Error budget burn rate", "Availability"]
    assert titles == wanted
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert all(letters)
    metadata = manifests("platform", stack())["dashboard"]["metadata"]
    assert metadata["labels"]["grafana_dashboard"] == "1"


def test_every_panel_is_among_the_queries() -> None:
    asked = set(queries(stack()))
    for panel in board(stack())["panels"]:
        for target in panel["targets"]:
            assert target["expr"].replace("$service", ".+").replace("$version", ".+") in asked
    assert not any("$" in query.replace('"$1"', "") for query in asked)
    assert not set(queries(stack(dashboards=False))) & {query for query in asked if query.startswith("avg")}


def test_plain_prometheus_gets_a_configmap_where_it_looks() -> None:
    metadata = manifests("platform", stack())["rules"]["metadata"]
    assert (metadata["namespace"], metadata["name"]) == ("monitoring", "gpuserve-rules-main")


def test_the_operator_gets_one_pod_monitor_and_a_rule_object() -> None:
    sources = [source(), source("other", namespace="gpuserve-b")]
    objects = manifests("platform", stack(discovery="operator", sources=sources))
    monitor = objects["pod-monitor"]["spec"]
    assert monitor["namespaceSelector"]["matchNames"] == ["gpuserve-b", "gpuserve-local"]
    assert monitor["selector"]["matchLabels"] == {"app.kubernetes.io/managed-by": "gpuserve"}
    assert monitor["podTargetLabels"] == ["gpuserve.io/service", "gpuserve.io/version"]
    assert monitor["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "3s"}]
    assert objects["rules"]["kind"] == "PrometheusRule"
    two = manifests("platform", stack(discovery="operator", sources=[*sources, source("third", path="/other")]))
    assert [role for role in two if role.startswith("pod-monitor")] == ["pod-monitor-0", "pod-monitor-1"]


def test_the_operators_objects_carry_the_labels_that_its_prometheus_chooses_by(sandbox: Any) -> None:
    release = {"release": "kube-prometheus-stack"}
    sandbox.platform["monitoring"] = {"discovery": "operator", "labels": release}
    sandbox.write()
    objects = manifests("platform", open_stack("local", sandbox.stacks).plan.monitoring["platform"])
    plain = manifests("platform", stack(discovery="operator"))["rules"]["metadata"]["labels"]
    for role in ("pod-monitor", "rules"):
        assert objects[role]["metadata"]["labels"] == {**plain, **release}
    assert objects["dashboard"]["metadata"]["labels"] == {**plain, "grafana_dashboard": "1"}


def test_labels_of_the_user_leave_gpuserves_own_as_they_are() -> None:
    ours = {"app.kubernetes.io/managed-by": "somebody"}
    objects = manifests("platform", stack(discovery="operator", labels=ours))
    for role in ("pod-monitor", "rules"):
        assert objects[role]["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gpuserve"


def test_the_adapter_leaves_out_what_has_several_values_per_pod() -> None:
    (rule,) = adapter_rules()
    pattern = re.search(r'"\^(.*)\$"', rule["seriesQuery"])
    assert pattern
    matched = {name for name in SERIES if re.fullmatch(pattern[1], name)}
    assert matched == set(SERIES) - {"gpuserve:latency_seconds"}
    assert re.sub(rule["name"]["matches"], r"gpuserve_\1", "gpuserve:queue_seconds") == "gpuserve_queue_seconds"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": [source(runtime="tritn")]}, "did you mean 'triton'?"),
        ({"slos": [{"service": "a"}, {"service": "a"}]}, "two objectives for service 'a'"),
        ({"slos": [{"service": "a", "availability": "100%"}]}, "leaves no error budget"),
        (
            {"slos": [{"service": "a", "availability": "80%"}]},
            "could never fire. Fix: write more than 83.3%: for example 99.9%",
        ),
        ({"slos": [{"service": "a", "availability": "101%"}]}, "over 100 percent"),
        ({"window": "1s"}, "set for example 1m"),
        ({"discovery": "dns"}, "use 'annotations' or 'operator'"),
        ({"labels": {"release": "no spaces"}}, "labels.release"),
    ],
)
def test_refusals_say_what_to_write(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        stack(**changes)
    assert words in str(caught.value)


@pytest.mark.parametrize(("sources", "watched"), [([], "none"), ([source("b")], "b")])
def test_an_objective_whose_alert_could_never_fire_is_refused(sources: list[MetricsSource], watched: str) -> None:
    words = rf"slos .*'a', of which no pods are watched \(it watches {watched}\)\. Fix: pass the `metrics_source`"
    with pytest.raises(SpecError, match=words):
        MonitoringSpec.parse({"sources": sources, "slos": [{"service": "a"}]})


names = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
slos = st.builds(
    lambda name, nines, seconds: {"service": name, "availability": nines, "latency_p95": seconds},
    names,
    st.none() | st.sampled_from(["90%", "99.9%", "99.999%"]),
    st.none() | st.sampled_from(["5ms", "30s"]),
)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(names, max_size=5),
    st.lists(slos, max_size=5, unique_by=lambda slo: slo["service"]),
    st.booleans(),
    st.booleans(),
    st.integers(4, 300),
)
def test_every_object_is_valid_kubernetes(
    services: list[str], objectives: list[dict[str, Any]], alerts: bool, dashboards: bool, window: int
) -> None:
    sources = [source(name) for name in services]
    spec = stack(sources=sources, slos=objectives, alerts=alerts, dashboards=dashboards, window=f"{window}s")
    for manifest in manifests("platform", spec).values():
        kubernetes_validate.validate(manifest, "1.36", strict=True)
        assert "&id" not in yaml.safe_dump(manifest)
    assert len(queries(spec)) == len(set(queries(spec)))
