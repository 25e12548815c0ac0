"""Policies beside the stack's on the same gateway and pods: paths, late answers, requests in clear."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests
from e2e_cluster import NAMESPACE, ROOT, VERSIONS, Cluster, wait_for
from e2e_stack import Stack
from e2e_traffic import INPUT, MODEL, infer, json_body, random_inputs

from gpuserve.cli.inference import Answer, InferenceError
from gpuserve.cli.inference import infer as ask
from gpuserve.kubernetes.values import Endpoint
from gpuserve.platform.outputs import curl_example
from gpuserve.platform.spec import ServiceSpec
from gpuserve.traffic.certificate import Certificate, issue
from gpuserve.traffic.manifests import TlsMaterial, address_url, manifests, service_url
from gpuserve.traffic.spec import TrafficSpec
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.sources.resolving import at_hand
from gpuserve_images.spec import load_model

pytestmark = pytest.mark.e2e

PATH = "/models/one"
REQUESTS = 10


@contextmanager
def policy(
    cluster: Cluster, name: str, *, mirror: str | None = None, made: Certificate | None = None, **changes: Any
) -> Iterator[TrafficSpec]:
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
    material = TlsMaterial(made.certificate, made.key, made.ca) if made else None
    objects = [*(_service(cluster, name, version) for version in VERSIONS), *manifests(name, spec, material).values()]
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
        url = address_url(gateway, "HTTP", spec)
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


def test_who_asks_in_clear_is_sent_to_the_listener_with_the_certificate(stack: Stack, quiet: Cluster):
    name, made = "secured", issue("secured.example.com")
    path = f"/v2/models/{MODEL}"

    def answer() -> Answer | None:
        with suppress(InferenceError):  # the certificate is read after the route
            return ask(f"{url}{path}/infer", {INPUT: random_inputs(1, seed=23)}, spec.host, timeout=30, authorities=made.ca)
        return None

    def in_clear() -> requests.Response:
        return requests.get(f"{stack.url}{path}?a=b", headers={"Host": spec.host}, timeout=10, allow_redirects=False)

    with policy(quiet, name, made=made, tls={"mode": "generated"}) as spec:
        wait_for("the redirect", lambda: in_clear().status_code == requests.codes.moved_permanently, seconds=60)
        assert in_clear().headers["Location"] == f"https://secured.example.com:8443{path}?a=b"
        url = service_url(quiet.get("gateways.gateway.networking.k8s.io", name, "-n", NAMESPACE), spec)
        assert url == "https://127.0.0.1:8443"
        assert wait_for("an answer", answer, seconds=30).version == "1"
        declared = {"name": name, "model": MODEL, "pool": "local", "versions": [{"build": "fp32", "weight": 100}]}
        service = ServiceSpec.parse({**declared, "traffic": {"host": spec.host, "tls": {"mode": "generated"}}})
        model = load_model(ROOT / "stacks/models/filetype.yaml")
        example = curl_example(
            url, service, MODEL, read_signature(at_hand(model.source, ROOT / "stacks/models").entry), NAMESPACE
        )
        pasted = subprocess.run(
            ["bash", "-c", example],
            env={**os.environ, **stack.variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert pasted.returncode == 0, pasted.stderr
        assert json.loads(pasted.stdout)["model_name"] == MODEL
