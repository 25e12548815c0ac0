"""Where clients are told to ask: the listener of a live Gateway that answers for a policy's host."""

from typing import Any

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import Endpoint
from gpuserve.traffic.manifests import address_url, manifests, service_url
from gpuserve.traffic.spec import TrafficSpec

SHARED = {"name": "shared", "class": "traefik"}


def policy(**changes: Any) -> TrafficSpec:
    split = [{"to": Endpoint("gpuserve-local", "filetype-fp32", 8000, 8001, "v2"), "weight": 100}]
    base = {"service": "filetype", "namespace": "gpuserve-local", "host": "filetype.example.com", "split": split}
    return TrafficSpec.parse({**base, **changes})


def gateway(*addresses: str, tls: bool = True) -> dict[str, Any]:
    found = manifests("filetype", policy(tls={"mode": "generated"} if tls else {}))["gateway"]
    return {**found, "status": {"addresses": [{"type": "IPAddress", "value": value} for value in addresses]}}


def test_addresses_come_from_the_live_gateway() -> None:
    spec = policy()
    assert address_url(gateway("10.0.0.1"), "HTTP", spec) == "http://10.0.0.1"
    assert address_url(gateway("fd00::1"), "HTTPS", spec) == "https://[fd00::1]"
    assert address_url(gateway("10.0.0.1", tls=False), "HTTPS", spec) is None
    assert address_url(gateway(), "HTTP", spec) == "http://filetype.example.com"
    assert address_url({"spec": None, "status": None}, "HTTP", spec) is None
    assert address_url(gateway("10.0.0.1"), "HTTP", policy(path="/models/one/")) == "http://10.0.0.1/models/one"
    assert address_url(gateway("10.0.0.1"), "HTTPS", policy(path="/")) == "https://10.0.0.1"


@pytest.mark.parametrize(
    ("hostnames", "host", "chosen"),
    [
        (["*.internal.corp", "*.example.com"], "filetype.example.com", "*.example.com"),
        (["*.com", None, "*.ml.example.com", "*.example.com"], "a.ml.example.com", "*.ml.example.com"),
        (["*.ml.example.com", "a.ml.example.com", None], "a.ml.example.com", "a.ml.example.com"),
        (["*.example.com"], "a.ml.example.com", "*.example.com"),
        ([None, "*.example.com"], "example.com", None),
        (["", "other.example.com"], "filetype.example.com", ""),
        (["*.example.com"], "example.com", "refused"),
        (["*.example.com"], "myexample.com", "refused"),
        (["filetype.internal.corp"], "filetype.example.com", "refused"),
        (["*.com", "*.ml.example.com", "*.example.com"], "*.example.com", "*.example.com"),
        (["*.com", "a.example.com"], "*.example.com", "*.com"),
        (["a.example.com"], "*.example.com", "refused"),
    ],
)
def test_the_listener_is_the_one_that_gateway_api_would_choose(
    hostnames: list[str | None], host: str, chosen: str | None
) -> None:
    ports = {hostname: 8081 + index for index, hostname in enumerate(hostnames)}
    found = [{"protocol": "HTTP", "port": port, "hostname": hostname} for hostname, port in ports.items()]
    other = {"protocol": "HTTPS", "port": 443, "hostname": host}
    live = {"spec": {"listeners": [other, *found]}, "status": {"addresses": [{"value": "10.0.0.1"}]}}
    assert address_url(live, "HTTP", policy(host=host)) == (None if chosen == "refused" else f"http://10.0.0.1:{ports[chosen]}")


@pytest.mark.parametrize(
    ("changes", "protocols", "expected"),
    [
        ({}, ["HTTP"], "http://10.0.0.1"),
        ({"tls": {"mode": "generated"}}, ["HTTP", "HTTPS"], "https://10.0.0.1:8443"),
        ({"tls": {"mode": "generated", "plain": "serve"}}, ["HTTP", "HTTPS"], "http://10.0.0.1"),
        ({"gateway": SHARED}, ["HTTP", "HTTPS"], "https://10.0.0.1:8443"),
        ({"gateway": SHARED}, ["HTTPS"], "https://10.0.0.1:8443"),
        ({"gateway": SHARED}, ["HTTP"], "http://10.0.0.1"),
        ({"gateway": SHARED}, ["TLS"], None),
    ],
)
def test_clients_are_told_the_address_that_answers(changes: dict[str, Any], protocols: list[str], expected: str | None) -> None:
    ports = {"HTTP": 80, "HTTPS": 8443, "TLS": 9443}
    spec = {"listeners": [{"protocol": protocol, "port": ports[protocol]} for protocol in protocols]}
    assert service_url({"spec": spec, "status": {"addresses": [{"value": "10.0.0.1"}]}}, policy(**changes)) == expected


CHART = {"http_port": 8000, "https_port": 8443, "exposed_http_port": 80, "exposed_https_port": 443}
"""Traefik as its Helm chart installs it: the ports of its entryPoints, and those of its Service."""


def test_traefik_of_the_helm_chart_is_asked_at_the_ports_of_its_service() -> None:
    spec = policy(tls={"mode": "generated"}, gateway=CHART, path="/models/one")
    objects = manifests("filetype", spec)
    made = objects["gateway"]["spec"]["listeners"]
    assert [(listener["protocol"], listener["port"]) for listener in made] == [("HTTP", 8000), ("HTTPS", 8443)]
    (sent,) = objects["redirect"]["spec"]["rules"][0]["filters"]
    assert sent["requestRedirect"]["port"] == 443
    live = {**objects["gateway"], "status": {"addresses": [{"value": "203.0.113.7"}]}}
    assert service_url(live, spec) == "https://203.0.113.7/models/one"
    assert address_url(live, "HTTP", spec) == "http://203.0.113.7/models/one"
    one = policy(tls={"mode": "generated"}, gateway={**CHART, "exposed_https_port": 9443})
    assert service_url(live, one) == "https://203.0.113.7:9443"
    assert manifests("filetype", one)["redirect"]["spec"]["rules"][0]["filters"][0]["requestRedirect"]["port"] == 9443


def test_the_ports_before_an_existing_gateway_count_too() -> None:
    live = {"spec": {"listeners": [{"protocol": "HTTP", "port": 8000}]}, "status": {"addresses": [{"value": "203.0.113.7"}]}}
    assert service_url(live, policy(gateway=SHARED)) == "http://203.0.113.7:8000"
    assert service_url(live, policy(gateway={**SHARED, "exposed_http_port": 80})) == "http://203.0.113.7"
    assert service_url(live, policy(gateway={**SHARED, "exposed_https_port": 443})) == "http://203.0.113.7:8000"
    assert policy(gateway={**SHARED, "exposed_http_port": 443}).gateway.exposed_http_port == 443


@pytest.mark.parametrize(
    "ports",
    [
        {"http_port": 8000, "exposed_http_port": 443},
        {"https_port": 8443, "exposed_https_port": 80},
        {"exposed_http_port": 8080, "exposed_https_port": 8080},
        {**SHARED, "exposed_http_port": 8080, "exposed_https_port": 8080},
    ],
)
def test_two_listeners_are_not_exposed_at_one_port(ports: dict[str, Any]) -> None:
    with pytest.raises(
        SpecError, match=r"exposes both listeners at port .* Fix: give exposed_http_port and exposed_https_port"
    ):
        policy(gateway=ports)
