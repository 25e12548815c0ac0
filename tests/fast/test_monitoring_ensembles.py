"""An ensemble's models count its requests too: which pods run one, and how the rules know."""

from typing import Any

import yaml

from gpuserve.cli.stack import open_stack
from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.manifests import manifests
from gpuserve.monitoring.series import SERIES
from gpuserve.monitoring.spec import MonitoringSpec


def rules(*sources: MetricsSource) -> list[dict[str, Any]]:
    spec = MonitoringSpec(sources=sources)
    (group,) = yaml.safe_load(manifests("platform", spec)["rules"]["data"]["gpuserve-main.yaml"])["groups"]
    return group["rules"]


def source(version: str, ensemble: str | None = None) -> MetricsSource:
    return MetricsSource("gpuserve-a10", "filetype", version, "triton", {}, "metrics", ensemble=ensemble)


def test_ensembles_are_recorded_before_the_series_that_ask_for_them() -> None:
    first, *series = rules(source("fp32"), source("int8", "whole"))
    labels = {"gpuserve_io_service": "filetype", "gpuserve_io_version": "int8", "model": "whole", "namespace": "gpuserve-a10"}
    assert first == {"record": "gpuserve:ensemble", "expr": "vector(1)", "labels": labels}
    assert [rule["record"] for rule in series] == list(SERIES)
    assert all("gpuserve:ensemble" in rule["expr"] for rule in series)


def test_without_an_ensemble_no_rule_asks_for_one() -> None:
    found = rules(source("fp32"), source("int8"))
    assert [rule["record"] for rule in found] == list(SERIES)
    assert not any("ensemble" in rule["expr"] for rule in found)


def test_a_stack_knows_its_ensembles_and_waits_for_them_to_be_loaded(sandbox: Any) -> None:
    def served() -> tuple[set[str], set[str | None]]:
        sandbox.write()
        stack = open_stack("local", sandbox.stacks)
        deployments = [found for found in stack.manifests() if found["kind"] == "Deployment"]
        (containers,) = zip(*(found["spec"]["template"]["spec"]["containers"] for found in deployments), strict=True)
        probes = {container["startupProbe"]["httpGet"]["path"] for container in containers}
        return probes, {each.ensemble for each in stack.plan.monitoring["platform"].sources}

    assert served() == ({"/v2/models/tiny/ready"}, {None})
    sandbox.become_an_ensemble()
    assert served() == ({"/v2/models/whole/ready"}, {"whole"})
