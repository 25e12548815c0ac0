"""Services that share a host: what one name can lead to, and what it cannot."""

from collections.abc import Callable
from typing import Any

import pytest

HOST = "api.example.com"
EXISTING = {"name": "shared", "namespace": "gateway-system", "class": "eg"}
GENERATED = {"tls": {"mode": "generated"}}
ISSUED = {"tls": {"mode": "cert-manager", "issuer": "letsencrypt"}}
SECRET = {"tls": {"mode": "secret", "secret": "api"}}


def _gateway(**fields: str) -> dict[str, Any]:
    return {"gateway": fields}


def _serve(sandbox: Any, *traffic: dict[str, Any]) -> None:
    """Serve ``m0``, ``m1`` and so on at one host, each below its own path."""
    sandbox.platform["services"] = [
        {**sandbox.service, "name": f"m{place}", "model": "tiny", "traffic": {"host": HOST, "path": f"/m{place}", **more}}
        for place, more in enumerate(traffic)
    ]
    sandbox.platform["pools"][0] |= {"gpus": 64, "quota": {"gpus": 64}}
    sandbox.write()


@pytest.mark.parametrize(
    "traffic",
    [
        [{}, {}],
        [{}, {}, {}],
        [_gateway(**{"class": "traefik-lan"}), _gateway(**{"class": "traefik-lan"})],
        [_gateway(**{"class": "lan", "dialect": "traefik"}), _gateway(**{"class": "lan", "dialect": "traefik"})],
        [{"gateway": EXISTING}, {"gateway": EXISTING}],
        [{"gateway": EXISTING}, {"gateway": {**EXISTING, "name": "other"}}],
        [{"gateway": {**EXISTING, "class": "traefik"}}, {}],
        [ISSUED, ISSUED],
        [SECRET, ISSUED],
        [GENERATED, {}],
        [GENERATED, {"host": "other.example.com", **GENERATED}],
        [_gateway(**{"class": "eg"}), {"host": "other.example.com", **_gateway(**{"class": "eg"})}],
    ],
)
def test_one_name_leads_to_services_of_one_address(
    traffic: list[dict[str, Any]], sandbox: Any, cli: Callable[..., Any]
) -> None:
    _serve(sandbox, *traffic)
    result = cli("check", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (_gateway(**{"class": "eg"}), _gateway(**{"class": "eg"}), "gateway.class = 'eg'"),
        ({}, _gateway(**{"class": "eg"}), "gateway.class = 'eg'"),
        ({}, _gateway(**{"class": "traefik-lan"}), "gateway.class = 'traefik-lan'"),
        ({"gateway": EXISTING}, _gateway(**{"class": "eg"}), "gateway.class = 'eg'"),
        (_gateway(**{"class": "eg"}), {"gateway": EXISTING}, "gateway.name = 'shared'"),
        ({**GENERATED, **_gateway(**{"class": "eg"})}, {**GENERATED, **_gateway(**{"class": "eg"})}, "gateway.class = 'eg'"),
    ],
)
def test_a_name_of_two_addresses_is_refused(
    first: dict[str, Any], second: dict[str, Any], field: str, sandbox: Any, refusal: Callable[[], str]
) -> None:
    _serve(sandbox, first, second)
    (said,) = refusal().splitlines()
    assert f"services[1].traffic.{field}: is not where service 'm0' (services[0]) is reached" in said
    assert f"has host '{HOST}' too: each Gateway has its own address, and a name leads to one. Fix: attach both" in said


@pytest.mark.parametrize(("first", "second"), [(GENERATED, GENERATED), (GENERATED, ISSUED), (SECRET, GENERATED)])
def test_two_certificates_of_which_one_is_generated_are_refused(
    first: dict[str, Any], second: dict[str, Any], sandbox: Any, refusal: Callable[[], str]
) -> None:
    _serve(sandbox, first, second)
    (said,) = refusal().splitlines()
    assert f"services[1].traffic.tls.mode = '{second['tls']['mode']}': brings a certificate for host '{HOST}' beside" in said
    assert f"service 'm0' (services[0]), whose mode is '{first['tls']['mode']}'" in said
    assert "Fix: use mode 'secret' or 'cert-manager' for both" in said


def test_every_service_that_is_not_reached_is_named_once(sandbox: Any, refusal: Callable[[], str]) -> None:
    _serve(sandbox, *[_gateway(**{"class": kind}) for kind in ("eg", "eg", "traefik")])
    assert [line.partition("traffic.")[2].split(" =")[0] for line in refusal().splitlines()] == ["gateway.class"] * 2


def test_a_class_of_traefik_is_not_spoken_to_in_plain_gateway_api(sandbox: Any, refusal: Callable[[], str]) -> None:
    _serve(sandbox, _gateway(dialect="gateway-api"))
    (said,) = refusal().splitlines()
    assert "services[0].traffic.gateway.dialect = 'gateway-api': is not enough for class 'traefik'" in said
    assert said.endswith("Fix: remove it, or write `dialect: traefik`")
