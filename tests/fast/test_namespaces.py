"""Namespaces that others named are taken as they are, and those that others use belong to no pool."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuserve.cli.stack import open_stack
from gpuserve_images.builder.spec import BuilderSpec

LONG = "recommendation-engine-feature-branch-preview-1234"


def test_namespaces_of_others_are_let_in_whatever_their_names(sandbox: Any) -> None:
    sandbox.service["clients"] = [LONG]
    sandbox.platform |= {"gateway_namespace": "3scale-gateway", "monitoring": {"namespace": "00-observability"}}
    sandbox.platform["pools"][0]["namespace"] = "3d-team"
    sandbox.write()
    for spec in open_stack("local", sandbox.stacks).plan.serving.values():
        assert spec.clients == ("3scale-gateway", LONG)
        assert spec.monitoring == "00-observability"
        assert spec.placement.namespace == "3d-team"


@pytest.mark.parametrize(
    ("at", "fields"),
    [
        ("services[0].clients[0]", {"clients": ["Team"]}),
        ("gateway_namespace", {"gateway_namespace": "a.b"}),
        ("monitoring.namespace", {"monitoring": {"namespace": "m" * 64}}),
        ("pools[0].namespace", {"namespace": "-a"}),
    ],
)
def test_what_is_no_namespace_is_refused(at: str, fields: dict[str, Any], sandbox: Any, refusal: Callable[[], str]) -> None:
    owners = {"services[0]": sandbox.service, "pools[0]": sandbox.platform["pools"][0]}
    owners.get(at.partition(".")[0], sandbox.platform).update(fields)
    sandbox.write()
    said = refusal()
    assert f"{at} = " in said
    assert "is not the name of a namespace (an RFC 1123 label of at most 63 characters). Fix: use lower-case letters" in said


@pytest.mark.parametrize(
    ("field", "platform", "namespace"),
    [
        ("monitoring.namespace", {}, "monitoring"),
        ("monitoring.namespace", {"monitoring": {"namespace": "obs"}}, "obs"),
        ("gateway_namespace", {}, "gateway-system"),
        ("gateway_namespace", {"gateway_namespace": "edge"}, "edge"),
    ],
)
def test_a_pool_takes_no_namespace_where_others_run(
    field: str, platform: dict[str, Any], namespace: str, sandbox: Any, refusal: Callable[[], str]
) -> None:
    sandbox.platform |= platform
    sandbox.platform["pools"][0]["namespace"] = namespace
    sandbox.write()
    said = refusal()
    assert f"pools[0].namespace = '{namespace}': is where " in said
    assert f"(`{field}`), and a pool owns its namespace" in said
    assert "Fix: give the pool a namespace of its own" in said


def test_the_pods_of_a_gateway_may_be_beside_it_in_the_pools_namespace(sandbox: Any) -> None:
    sandbox.platform["gateway_namespace"] = "gpuserve-local"
    sandbox.service["traffic"] = {"host": "tiny.example.com", "gateway": {"class": "istio"}}
    sandbox.write()
    assert all(spec.clients == ("gpuserve-local",) for spec in open_stack("local", sandbox.stacks).plan.serving.values())


def test_a_builders_secrets_may_have_names_with_dots() -> None:
    names = {"registry_secret": "pull.example.com", "secrets": ["3-s3"], "service_account": "ml.builder", "namespace": "3d"}
    spec = BuilderSpec.parse({"kind": "job", **names})
    assert (spec.registry_secret, spec.secrets, spec.service_account) == ("pull.example.com", ("3-s3",), "ml.builder")
