"""What a monitoring stack becomes: rules, a dashboard, and with prometheus-operator the scraping."""

from typing import Any

import yaml

from gpuserve.kubernetes.metadata import SERVICE_LABEL, VERSION_LABEL, Manifest, labels, manifest
from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring import dashboard, rules
from gpuserve.monitoring.spec import MonitoringSpec

OPERATOR_API = "monitoring.coreos.com/v1"
POD_LABELS = (SERVICE_LABEL, VERSION_LABEL)


def manifests(name: str, spec: MonitoringSpec) -> dict[str, Manifest]:
    """Return scraping, rules and dashboard.

    With discovery ``annotations`` the servers' pods carry the scrape annotations themselves.
    """
    result: dict[str, Manifest] = {}
    groups = rules.groups(spec)
    if spec.discovery == "operator":
        result |= _pod_monitors(name, spec)
    if groups:
        result["rules"] = _rules(name, spec, groups)
    if spec.dashboards:
        result["dashboard"] = _dashboard(name, spec)
    return result


def queries(spec: MonitoringSpec) -> list[str]:
    """Return every PromQL expression of the rules and of the dashboard, template variables filled in, each once.

    While there is traffic, each of them returns data.
    """
    found = list(rules.expressions(spec))
    if spec.dashboards:
        found += dashboard.expressions(spec.scope, **_objectives(spec))
    return list(dict.fromkeys(found))


def rules_name(spec: MonitoringSpec) -> str:
    """Return the name of the ConfigMap that a plain Prometheus mounts, with those of other stacks, as a folder of rule files."""
    return f"gpuserve-rules-{spec.stack}"


def dashboard_name(spec: MonitoringSpec) -> str:
    """Return the name of the ConfigMap with the dashboard."""
    return f"gpuserve-dashboard-{spec.stack}"


def _objectives(spec: MonitoringSpec) -> dict[str, bool]:
    return {
        "availability": any(slo.availability is not None for slo in spec.slos),
        "latency": any(slo.latency_p95 is not None for slo in spec.slos),
    }


def _labels(name: str) -> dict[str, str]:
    return labels(name="gpuserve", instance=name, component="monitoring")


def _chosen_labels(name: str, spec: MonitoringSpec) -> dict[str, str]:
    """Return the labels by which prometheus-operator's Prometheus chooses an object."""
    return {**spec.labels, **_labels(name)}


def _rules(name: str, spec: MonitoringSpec, groups: list[dict[str, Any]]) -> Manifest:
    if spec.discovery == "operator":
        marks = _chosen_labels(name, spec)
        body: dict[str, Any] = {"spec": {"groups": groups}}
        return manifest(
            OPERATOR_API, "PrometheusRule", f"gpuserve-{spec.stack}", namespace=spec.namespace, labels=marks, **body
        )
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump({"groups": groups}, Dumper=dumper, sort_keys=False, width=1_000_000)
    data = {f"gpuserve-{spec.stack}.yaml": text}  # such files of all stacks lie in one folder
    return manifest("v1", "ConfigMap", rules_name(spec), namespace=spec.namespace, labels=_labels(name), data=data)


def _dashboard(name: str, spec: MonitoringSpec) -> Manifest:
    marks = {**_labels(name), "grafana_dashboard": "1"}
    data = {f"gpuserve-{spec.stack}.json": dashboard.dashboard(spec.scope, **_objectives(spec))}
    return manifest("v1", "ConfigMap", dashboard_name(spec), namespace=spec.namespace, labels=marks, data=data)


def _pod_monitors(name: str, spec: MonitoringSpec) -> dict[str, Manifest]:
    """Return one PodMonitor per kind of metrics endpoint, not per service: the operator's work stays small."""
    kinds: dict[tuple[str, str], list[MetricsSource]] = {}
    for source in spec.sources:
        kinds.setdefault((source.port, source.path), []).append(source)
    monitors: dict[str, Manifest] = {}
    for (port, path), sources in sorted(kinds.items()):
        suffix = f"-{len(monitors)}" if len(kinds) > 1 else ""
        role, object_name = f"pod-monitor{suffix}", f"gpuserve-{spec.stack}{suffix}"
        monitors[role] = manifest(
            OPERATOR_API,
            "PodMonitor",
            object_name,
            namespace=spec.namespace,
            labels=_chosen_labels(name, spec),
            spec={
                "selector": _selector(sources),
                "namespaceSelector": {"matchNames": sorted({source.namespace for source in sources})},
                "podTargetLabels": list(POD_LABELS),
                "podMetricsEndpoints": [{"port": port, "path": path, "interval": f"{_scrape_seconds(spec)}s"}],
            },
        )
    return monitors


def _selector(sources: list[MetricsSource]) -> dict[str, Any]:
    """Return what the sources' pods have in common: equal labels, and the labels of a served version."""
    common = set(sources[0].selector.items())
    for source in sources[1:]:
        common &= set(source.selector.items())
    versions = [{"key": label, "operator": "Exists"} for label in POD_LABELS]
    return {"matchLabels": dict(sorted(common)), "matchExpressions": versions}


def _scrape_seconds(spec: MonitoringSpec) -> int:
    return max(1, spec.window.whole_seconds // rules.EVALUATIONS_PER_WINDOW)
