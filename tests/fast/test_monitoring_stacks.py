"""Several stacks on one Prometheus: their objects have names of their own, and their expressions read their own series alone."""

import json
import re
from typing import Any

import pulumi
import pytest

from gpuserve.cli.stack import open_stack
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import MetricsSource
from gpuserve.monitoring.manifests import manifests, queries
from gpuserve.monitoring.spec import MAX_STACK, MonitoringSpec, stack_label

SLO = {"service": "filetype", "availability": "99.9%", "latency_p95": "50ms", "shadows": ["int8"]}


def spec(stack: str, *namespaces: str, **changes: Any) -> MonitoringSpec:
    sources = [MetricsSource(name, "filetype", "fp32", "triton", {}, "metrics", ensemble="whole") for name in namespaces]
    return MonitoringSpec.parse({"stack": stack, "sources": sources, "slos": [SLO], **changes})


@pytest.mark.parametrize("discovery", ["annotations", "operator"])
def test_no_object_of_two_stacks_is_one(discovery: str) -> None:
    prod, staging = (manifests("platform", spec(stack, stack, discovery=discovery)).values() for stack in ("prod", "staging"))
    names = [(each["kind"], each["metadata"]["name"]) for each in (*prod, *staging)]
    assert len(set(names)) == len(names) > 2
    keys = [key for each in (*prod, *staging) for key in each.get("data", ())]
    assert len(set(keys)) == len(keys), "Prometheus and Grafana read the files of all ConfigMaps from one folder"
    boards = [
        json.loads(next(iter(each["data"].values()))) for each in (*prod, *staging) if "dashboard" in each["metadata"]["name"]
    ]
    assert len({(board["uid"], board["title"]) for board in boards}) == 2


def test_every_series_that_is_read_is_the_stacks_own() -> None:
    own = 'namespace=~"ml|ml-big"', 'stack="prod"'
    for query in queries(spec("prod", "ml-big", "ml")):
        read = re.findall(r"\b(?:gpuserve:(?!ensemble)[a-z0-9_:]+|nv_\w+|up(?={))({[^}]*})?", query)
        assert all(any(part in selector for part in own) for selector in read), query
        assert read or query.startswith("vector("), query


def test_a_stack_file_gives_its_name_or_another(sandbox: Any) -> None:
    def found() -> MonitoringSpec:
        sandbox.write()
        return open_stack("local", sandbox.stacks).plan.monitoring["platform"]

    assert found().stack == "local"
    sandbox.platform["monitoring"] = {"stack": "team-a"}
    assert found().stack == "team-a"
    sandbox.platform["monitoring"] = {"stack": "Team A"}
    with pytest.raises(SpecError, match=r"monitoring.stack = 'Team A'"):
        found()


@pytest.mark.parametrize("name", ["prod", "3d", "a" * MAX_STACK, "team-a-prod"])
def test_a_name_that_the_cluster_takes_is_taken(name: str) -> None:
    assert stack_label(name) == name


def test_names_that_the_cluster_does_not_take_stay_apart() -> None:
    names = ["Prod", "PROD", "prod.eu", "prod_eu", "a" * 90, "a" * 91, "-", "__"]
    labels = [stack_label(name) for name in names]
    assert len(set(labels)) == len(names)
    assert stack_label("prod", "east") == "prod-east"
    for label in labels:
        assert spec(label, "ml").stack == label
        for each in manifests("platform", spec(label, "ml", discovery="operator")).values():
            assert len(each["metadata"]["name"]) <= 63


def test_a_namespace_of_pods_is_known_when_rules_are_written() -> None:
    later: Any = pulumi.Output.from_input("ml")
    with pytest.raises(SpecError, match="must be known at plan time"):
        spec("prod", later)
