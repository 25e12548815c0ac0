"""Versions that clients are answered by, beside one another: each has an alert for when its own servers are gone."""

from typing import Any

import yaml

from gpuserve.cli.stack import open_stack
from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.manifests import manifests
from gpuserve.monitoring.spec import MonitoringSpec


def rules(spec: MonitoringSpec) -> list[dict[str, Any]]:
    text = next(iter(manifests("platform", spec)["rules"]["data"].values()))
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def marked(spec: MonitoringSpec) -> list[tuple[str, str]]:
    """Return service and version of what is to be watched by version, and see that there is an alert exactly then."""
    found = [rule["labels"] for rule in rules(spec) if rule.get("record") == "gpuserve:slo_version"]
    assert any(rule.get("alert") == "GpuserveVersionSilent" for rule in rules(spec)) == bool(found)
    assert all(labels["stack"] == spec.stack for labels in found)
    return [(labels["service"], labels["version"]) for labels in found]


def monitored(*versions: str, **changes: Any) -> MonitoringSpec:
    sources = [MetricsSource("ml", "filetype", version, "triton", {}, "metrics") for version in versions]
    other = MetricsSource("ml", "other", "fp32", "triton", {}, "metrics")
    slos = [{"service": "filetype", "availability": "99.9%", **changes}, {"service": "other", "availability": "99%"}]
    return MonitoringSpec.parse({"sources": [*sources, other], "slos": slos})


def test_versions_that_share_the_requests_are_watched_each() -> None:
    assert marked(monitored("int8", "fp32")) == [("filetype", "fp32"), ("filetype", "int8")]
    assert marked(monitored("fp32", "int8", "int4", shadows=["int4"])) == [("filetype", "fp32"), ("filetype", "int8")]


def test_the_only_version_that_answers_clients_is_the_service() -> None:
    assert marked(monitored("fp32")) == []
    assert marked(monitored("fp32", "int8", shadows=["int8"])) == []
    assert marked(monitored("fp32", "int8", availability=None)) == []


def test_a_stack_watches_the_versions_that_have_a_weight(sandbox: Any) -> None:
    def of(*weights: int) -> list[tuple[str, str]]:
        for version, weight in zip(sandbox.service["versions"], weights, strict=True):
            version["weight"] = weight
        sandbox.write()
        return marked(open_stack("local", sandbox.stacks).plan.monitoring["platform"])

    builds = sorted(version["build"] for version in sandbox.service["versions"])
    assert of(99, 1) == [("tiny", build) for build in builds]
    assert of(100, 0) == []
