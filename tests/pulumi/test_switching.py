"""Requests are led to servers that are ready, and to the old ones until then: the order in which the engine is told."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest

from gpuserve.kubernetes.values import Endpoint
from gpuserve.node_pool.component import GpuNodePool
from gpuserve.serving.component import ServingStack
from gpuserve.traffic.component import TrafficPolicy

SMALL: dict[str, Any] = {
    "pool": "local",
    "model": "small",
    "versions": [{"build": "fp32", "weight": 0}, {"build": "int8", "weight": 100}],
}
TRAEFIK = {"class": "traefik", "http_port": 8080, "https_port": 8443}
SERVER = Endpoint(namespace="a", service="b", http_port=8000, grpc_port=8001, protocol="v2")
POOL = {"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 8}}
SERVERS = {f"small-{build}-{role}" for build in ("fp32", "int8") for role in ("deployment", "service", "network", "account")}
WAYS = {
    "traefik": ["small-transport", "small-split", "small-mirror", "small-route"],
    "eg": ["small-route"],
}
GENERATED = {"mode": "generated"}


@pytest.fixture
def two_services(small_platform: Callable[..., Any]) -> Callable[..., Any]:
    """A platform with two services of two versions each, one of which may be asked with another gateway."""

    def declared(gateway: dict[str, Any]) -> Any:
        traffic = {"gateway": gateway, "mirror": {"to": "fp32"}, "tls": GENERATED}
        services = [
            {**SMALL, "name": name, "traffic": {"host": f"{name}.example.com", **traffic}} for name in ("small", "other")
        ]
        return small_platform(pools=[POOL], services=services)

    return declared


@pytest.fixture
def quiet_loop() -> Iterator[None]:
    """An event loop that says nothing of the outputs that nobody asks about any more when a program has failed."""
    usual, loop = asyncio.get_event_loop(), asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(usual)
    loop.close()


def waits_for(engine: Any, name: str) -> set[str]:
    """Return the names of what an object is created or changed after, and deleted before."""
    return {urn.split("::")[-1] for urn in engine.resources[name].dependencies}


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("gateway", [TRAEFIK, {**TRAEFIK, "class": "eg"}], ids=["traefik", "eg"])
def test_what_leads_to_servers_waits_for_all_of_the_service_s(
    engine: Any, two_services: Callable[..., Any], gateway: dict[str, Any], *, preview: bool
) -> None:
    engine.run(lambda: two_services(gateway), preview=preview)
    for name in WAYS[gateway["class"]]:
        assert waits_for(engine, name) >= SERVERS
        assert not [one for one in waits_for(engine, name) if one.startswith("other-")]


@pytest.mark.parametrize("gateway", [TRAEFIK, {**TRAEFIK, "class": "eg"}], ids=["traefik", "eg"])
def test_gateway_certificate_and_redirect_are_made_while_the_servers_start(
    engine: Any, two_services: Callable[..., Any], gateway: dict[str, Any]
) -> None:
    engine.run(lambda: two_services(gateway))
    for name in ("small-certificate", "small-tls", "small-gateway", "small-redirect"):
        assert not waits_for(engine, name) & SERVERS


def test_each_object_on_the_way_waits_for_those_that_it_names(engine: Any, two_services: Callable[..., Any]) -> None:
    engine.run(lambda: two_services(TRAEFIK))
    way = WAYS["traefik"]
    for index, name in enumerate(way):
        assert waits_for(engine, name) & set(way) == set(way[:index])


@pytest.mark.usefixtures("quiet_loop")
def test_a_server_that_is_never_ready_leaves_its_service_s_split_as_it_was(
    engine: Any, two_services: Callable[..., Any]
) -> None:
    engine.failing.add("small-int8-deployment")
    with pytest.raises(Exception, match="small-int8-deployment is never ready"):
        engine.run(lambda: two_services(TRAEFIK))
    registered = set(engine.resources)
    assert "small-gateway" in registered
    assert not registered & set(WAYS["traefik"])


@pytest.mark.parametrize("given", [lambda server: [server], lambda server: server], ids=["list", "alone"])
def test_a_policy_of_a_program_of_one_s_own_waits_for_the_servers_that_it_is_given(
    engine: Any, given: Callable[[ServingStack], Any]
) -> None:
    spec = {"service": "small", "version": "fp32", "model": "small", "image": "r.example.com/small@sha256:" + "0" * 64}

    def program() -> None:
        pool = GpuNodePool("local", POOL)
        after = pulumi.ResourceOptions(depends_on=[pool])
        server = ServingStack("small-fp32", {**spec, "placement": pool.placement}, after)
        split = [{"to": server.endpoint, "weight": 100}]
        policy = {"service": "small", "namespace": pool.placement.namespace, "host": "small.example.com", "split": split}
        TrafficPolicy("small", policy, after, servers=given(server))

    engine.run(program)
    assert {"local-quota", "small-fp32-deployment", "small-fp32-service"} <= waits_for(engine, "small-route")
    assert "local-quota" in waits_for(engine, "small-gateway")
    assert "small-fp32-deployment" not in waits_for(engine, "small-gateway")


def test_what_is_no_resource_has_nothing_to_wait_for(engine: Any) -> None:
    def program() -> None:
        split = [{"to": SERVER, "weight": 100}]
        policy = {"service": "small", "namespace": "a", "host": "small.example.com", "split": split}
        TrafficPolicy("small", policy, servers=[SERVER])  # pyright: ignore[reportArgumentType] - a mistake

    with pytest.raises(pulumi.RunError, match=r"^servers\[0\]: is of type Endpoint, .*Fix: pass the ServingStack itself"):
        engine.run(program)
