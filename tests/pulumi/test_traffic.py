"""The traffic policy as a component under Pulumi's mocks."""

from dataclasses import replace
from typing import Any

import pulumi
import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import Endpoint
from gpuserve.traffic.component import TrafficPolicy

FP32 = Endpoint("gpuserve-local", "filetype-fp32", 8000, 8001, "v2")
LOCAL = {
    "service": "filetype",
    "namespace": "gpuserve-local",
    "host": "filetype.example.com",
    "split": [{"to": FP32, "weight": 100}],
    "gateway": {"class": "traefik", "http_port": 8080, "https_port": 8443},
}
GENERATED = {**LOCAL, "tls": {"mode": "generated"}}


def outputs(engine: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Return what the policy's outputs were when the program had ended."""
    found: dict[str, Any] = {}

    def program() -> Any:
        policy = TrafficPolicy("filetype", args)
        names = {"url": policy.url, "https_url": policy.https_url, "ca": policy.ca}
        return pulumi.Output.all(**names).apply(found.update)

    engine.run(program)
    return found


def test_children_have_the_provider_s_types_and_stable_names(engine: Any) -> None:
    engine.run(lambda: TrafficPolicy("filetype", GENERATED))
    assert engine.types() == {
        "filetype": "gpuserve:index:TrafficPolicy",
        "filetype-certificate": "pulumi-python:dynamic/traffic:Certificate",
        "filetype-tls": "kubernetes:core/v1:Secret",
        "filetype-ca": "kubernetes:core/v1:ConfigMap",
        "filetype-gateway": "kubernetes:gateway.networking.k8s.io/v1:Gateway",
        "filetype-transport": "kubernetes:traefik.io/v1alpha1:ServersTransport",
        "filetype-split": "kubernetes:traefik.io/v1alpha1:TraefikService",
        "filetype-route": "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",
        "filetype-redirect": "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",
    }
    assert all(child.parent.endswith("::filetype") for name, child in engine.resources.items() if name != "filetype")


def test_the_secret_waits_for_its_certificate(engine: Any) -> None:
    engine.run(lambda: TrafficPolicy("filetype", GENERATED))
    for child in ("filetype-tls", "filetype-ca"):
        assert [urn.split("::")[-1] for urn in engine.resources[child].dependencies] == ["filetype-certificate"]
    assert engine.resources["filetype-certificate"].inputs["host"] == "filetype.example.com"


def test_addresses_are_the_listeners_of_the_gateway(engine: Any) -> None:
    # The mocked engine answers with what it was asked, without a status, so that the host stands for the address.
    found = outputs(engine, LOCAL)
    assert found == {"url": "http://filetype.example.com:8080", "https_url": None, "ca": None}


@pytest.mark.parametrize(
    ("tls", "scheme"), [({"mode": "generated"}, "https"), ({"mode": "generated", "plain": "serve"}, "http"), ({}, "http")]
)
def test_clients_use_tls_where_the_plain_listener_only_redirects(engine: Any, tls: dict[str, str], scheme: str) -> None:
    found = outputs(engine, {**LOCAL, "tls": tls})
    assert found["url"] == {"http": "http://filetype.example.com:8080", "https": "https://filetype.example.com:8443"}[scheme]
    assert found["https_url"] == ("https://filetype.example.com:8443" if tls else None)
    assert ("filetype-redirect" in engine.types()) == (scheme == "https")


def test_addresses_have_the_path(engine: Any) -> None:
    found = outputs(engine, {**GENERATED, "path": "/models/one"})
    assert found["url"] == "https://filetype.example.com:8443/models/one"
    assert found["https_url"] == "https://filetype.example.com:8443/models/one"


def test_addresses_have_the_ports_that_are_exposed(engine: Any) -> None:
    chart = {"http_port": 8000, "https_port": 8443, "exposed_http_port": 80, "exposed_https_port": 443}
    found = outputs(engine, {**GENERATED, "gateway": chart})
    assert found["url"] == found["https_url"] == "https://filetype.example.com"
    (rule,) = engine.resources["filetype-redirect"].inputs["spec"]["rules"]
    assert rule["filters"][0]["requestRedirect"]["port"] == 443


def test_an_existing_gateway_is_read_and_not_registered(engine: Any) -> None:
    found = outputs(engine, {**LOCAL, "gateway": {"name": "shared", "namespace": "gateway-system", "class": "traefik"}})
    assert "filetype-gateway" not in engine.types()
    assert found["url"] is None


def test_the_declaration_is_the_component_s_input(engine: Any) -> None:
    engine.run(lambda: TrafficPolicy("filetype", LOCAL))
    inputs = engine.resources["filetype"].inputs
    assert inputs["timeout"] == "300s"
    assert inputs["split"][0]["to"]["service"] == "filetype-fp32"


def test_a_bad_policy_registers_nothing(engine: Any) -> None:
    with pytest.raises(SpecError, match="has weights 90 = 90, not 100"):
        engine.run(lambda: TrafficPolicy("filetype", {**LOCAL, "split": [{"to": FP32, "weight": 90}]}))
    assert engine.resources == {}


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ({"class": "eg"}, r"services\[1\]\.traffic\.gateway\.class = 'eg': is not where service 'm0' .* Fix: attach both"),
        (
            {"dialect": "gateway-api"},
            r"services\[0\]\.traffic\.gateway\.dialect = 'gateway-api': is not enough .* Fix: remove it",
        ),
    ],
)
def test_a_platform_whose_hosts_lead_nowhere_registers_nothing(
    engine: Any, small_platform: Any, gateway: dict[str, str], words: str
) -> None:
    services = [
        {
            "name": f"m{place}",
            "model": "small",
            "pool": "local",
            "versions": [{"build": "fp32", "weight": 100}],
            "traffic": {"host": "api.example.com", "path": f"/m{place}", "gateway": gateway},
        }
        for place in range(2)
    ]
    with pytest.raises(pulumi.RunError, match=words):
        engine.run(lambda: small_platform(services=services))
    assert engine.resources == {}


def test_a_namespace_of_servers_may_be_known_later(engine: Any) -> None:
    def program() -> None:
        names = ("filetype-fp32", "filetype-int8")
        later = [replace(FP32, service=name, namespace=pulumi.Output.from_input("gpuserve-local")) for name in names]
        TrafficPolicy("filetype", {**LOCAL, "split": [{"to": server, "weight": 50} for server in later]})

    engine.run(program)
    assert "filetype-route" in engine.resources
