"""Policies beside the stack's on the same gateway and pods: a path is taken off, copies included; a late answer is given up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from e2e_cluster import NAMESPACE, VERSIONS, Cluster, wait_for
from e2e_stack import Stack
from e2e_traffic import MODEL, infer, json_body, random_inputs

from gpuserve.kubernetes.values import Endpoint
from gpuserve.traffic import TrafficSpec, manifests
from gpuserve.traffic.manifests import address_url

pytestmark = pytest.mark.e2e

PATH = "/models/one"
REQUESTS = 10


@contextmanager
def policy(cluster: Cluster, name: str, *, mirror: str | None = None, **changes: Any) -> Iterator[TrafficSpec]:
    """Have a policy of that name with Services of its own: Traefik has one transport per Service, and the stack's is the stack's."""
    services = {version: Endpoint(NAMESPACE, f"{name}-{version}", 8000, None, "v2") for version in VERSIONS}
    declared = {
        "service": name,
        "namespace": NAMESPACE,
        "host": f"{name}.example.com",
        "split": [{"to": services["fp32"], "weight": 80}, {"to": services["int8"], "weight": 20}],
        "mirror": {"to": services[mirror]} if mirror else None,
        "gateway": {"http_port": 8080, "https_port": 8443},
    }
    spec = TrafficSpec.parse({**declared, **changes})
    objects = [*(_service(cluster, name, version) for version in VERSIONS), *manifests(name, spec).values()]
    try:
        cluster.apply(*objects)
        yield spec
    finally:
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        cluster.kubectl("delete", "--ignore-not-found", "--wait=true", "-f", "-", stdin=listed)


def _service(cluster: Cluster, name: str, version: str) -> dict[str, Any]:
    selector = cluster.get("service", f"filetype-{version}", "-n", NAMESPACE)["spec"]["selector"]
    spec = {"selector": selector, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-{version}", "namespace": NAMESPACE},
        "spec": spec,
    }


def test_a_path_is_taken_off_the_request_and_its_copy(stack: Stack, quiet: Cluster):
    def ready(url: str) -> int:
        return requests.get(f"{url}/v2/health/ready", headers={"Host": spec.host}, timeout=10).status_code

    def answered() -> int:
        return sum(quiet.successes(version) for version in VERSIONS)

    inputs = random_inputs(1, seed=21)
    with policy(quiet, "paths", mirror="int8", path=PATH) as spec:
        # Ten in a row have asked both versions: of five requests, the split sends one to the second.
        wait_for("the route", lambda: all(ready(f"{stack.url}{PATH}") == 200 for _ in range(10)), seconds=60)
        gateway = quiet.get("gateways.gateway.networking.k8s.io", "paths", "-n", NAMESPACE)
        url = address_url(gateway, "HTTP", spec.host, spec.path)
        assert url == f"{stack.url}{PATH}"
        before = answered()
        for _ in range(REQUESTS):
            infer(url, inputs, host=spec.host)
        wait_for("every request and its copy", lambda: answered() - before >= 2 * REQUESTS, seconds=30, every=1)
        assert ready(stack.url) == 404  # what is not below the path is nobody's


def test_an_answer_that_takes_longer_than_the_timeout_is_given_up(stack: Stack, quiet: Cluster):
    inputs = random_inputs(8, seed=22)

    def status() -> int:
        url = f"{stack.url}/v2/models/{MODEL}/infer"
        return requests.post(url, json=json_body(inputs), headers={"Host": spec.host}, timeout=30).status_code

    with policy(quiet, "hasty", timeout="1ms") as spec:
        wait_for("the timeout", lambda: status() == requests.codes.gateway_timeout, seconds=60)
    infer(stack.url, inputs)  # the stack's own timeout is not reached by the same question
