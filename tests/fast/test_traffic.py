"""What a traffic policy becomes in each gateway dialect, and what it refuses."""

import json
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.units import Duration, Percent
from gpuserve.kubernetes.values import Endpoint
from gpuserve.traffic.checks import problems
from gpuserve.traffic.gateways import DIALECTS
from gpuserve.traffic.gateways.gateway_api import duration
from gpuserve.traffic.manifests import TlsMaterial, manifests
from gpuserve.traffic.spec import GatewaySpec, TlsSpec, TrafficSpec

FP32 = Endpoint("gpuserve-local", "filetype-fp32", 8000, 8001, "v2")
INT8 = Endpoint("gpuserve-local", "filetype-int8", 8000, 8001, "v2")
SPLIT = [{"to": FP32, "weight": 80}, {"to": INT8, "weight": 20}]
SHARED = {"name": "shared", "class": "traefik"}


def policy(**changes: Any) -> TrafficSpec:
    base = {"service": "filetype", "namespace": "gpuserve-local", "host": "filetype.example.com", "split": SPLIT}
    return TrafficSpec.parse({**base, **changes})


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        policy(**changes)
    return str(caught.value)


def portable(**changes: Any) -> dict[str, Any]:
    return manifests("filetype", policy(gateway={"class": "envoy"}, **changes))


def test_plain_gateway_api_says_split_mirror_and_timeout_in_the_route() -> None:
    route = portable(mirror={"to": INT8, "percent": 10}, timeout="90s")["route"]
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["hostnames"] == ["filetype.example.com"]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert [(ref["name"], ref["port"], ref["weight"]) for ref in rule["backendRefs"]] == [
        ("filetype-fp32", 8000, 80),
        ("filetype-int8", 8000, 20),
    ]
    assert rule["timeouts"] == {"request": "90s"}
    (mirror,) = rule["filters"]
    assert mirror["type"] == "RequestMirror"
    assert mirror["requestMirror"]["backendRef"]["name"] == "filetype-int8"
    assert mirror["requestMirror"]["percent"] == 10


@pytest.mark.parametrize("written", ["/models/one", "/models/one/"])
@pytest.mark.parametrize("kind", ["traefik", "envoy"])
def test_a_path_is_taken_off_before_a_server_sees_it(kind: str, written: str) -> None:
    route = manifests("filetype", policy(path=written, mirror={"to": INT8}, gateway={"class": kind}))["route"]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/models/one"}}]
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    assert rule["filters"][0] == rewrite
    others = [found["type"] for found in rule["filters"][1:]]
    assert others == {"traefik": [], "envoy": ["RequestMirror"]}[kind]


def test_a_share_below_a_percent_is_a_fraction() -> None:
    rule = portable(mirror={"to": INT8, "percent": "0.5%"})["route"]["spec"]["rules"][0]
    assert rule["filters"][0]["requestMirror"]["fraction"] == {"numerator": 500, "denominator": 100_000}


def test_traefik_mirrors_around_its_own_weighted_service() -> None:
    objects = manifests("filetype", policy(mirror={"to": INT8, "percent": 10}, timeout="90s"))
    (rule,) = objects["route"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"group": "traefik.io", "kind": "TraefikService", "name": "filetype-mirror"}]
    assert "filters" not in rule  # it would answer every request with 500
    mirroring = objects["mirror"]["spec"]["mirroring"]
    assert (mirroring["kind"], mirroring["name"]) == ("TraefikService", objects["split"]["metadata"]["name"])
    services = objects["split"]["spec"]["weighted"]["services"]
    assert [(service["name"], service["weight"]) for service in services] == [("filetype-fp32", 80), ("filetype-int8", 20)]
    (mirror,) = mirroring["mirrors"]
    assert mirror["percent"] == 10
    # Traefik keeps one server per name and port: written twice, it must say the same.
    without = ({k: v for k, v in mirror.items() if k != "percent"}, {k: v for k, v in services[1].items() if k != "weight"})
    assert without[0] == without[1]
    assert objects["transport"]["spec"]["forwardingTimeouts"]["responseHeaderTimeout"] == "90s"
    assert {service["serversTransport"] for service in services} == {objects["transport"]["metadata"]["name"]}
    assert list(objects)[-1] == "route"


def test_without_a_mirror_traefik_routes_to_the_split() -> None:
    objects = manifests("filetype", policy())
    assert "mirror" not in objects
    assert objects["route"]["spec"]["rules"][0]["backendRefs"][0]["name"] == "filetype"


def test_pulumi_waits_for_gateway_and_route() -> None:
    objects = portable()
    assert objects["gateway"]["metadata"]["annotations"]["pulumi.com/waitFor"] == "condition=Programmed"
    waits = json.loads(objects["route"]["metadata"]["annotations"]["pulumi.com/waitFor"])
    assert waits[0] == 'jsonpath={.status.parents[*].conditions[?(@.type=="Accepted")].status}=True'
    assert "ResolvedRefs" in waits[1]


def listeners(spec: TrafficSpec) -> list[tuple[str, int]]:
    gateway = manifests("filetype", spec)["gateway"]
    return [(listener["protocol"], listener["port"]) for listener in gateway["spec"]["listeners"]]


def test_a_certificate_brings_a_second_listener() -> None:
    assert listeners(policy()) == [("HTTP", 80)]
    secure = policy(tls={"mode": "secret", "secret": "own"}, gateway={"http_port": 8080, "https_port": 8443})
    assert listeners(secure) == [("HTTP", 8080), ("HTTPS", 8443)]
    gateway = manifests("filetype", secure)["gateway"]
    assert gateway["spec"]["listeners"][1]["tls"]["certificateRefs"][0]["name"] == "own"


def test_a_generated_key_is_in_no_rendered_file_and_passes_through_as_an_output() -> None:
    spec = policy(tls={"mode": "generated"})
    assert "Secret" not in {manifest["kind"] for manifest in manifests("filetype", spec).values()}
    key = pulumi.Output.secret("key")
    objects = manifests("filetype", spec, TlsMaterial("certificate", key, "ca"))
    assert objects["tls"]["type"] == "kubernetes.io/tls"
    assert objects["tls"]["stringData"]["tls.key"] is key
    assert objects["ca"]["data"] == {"ca.crt": "ca"}
    reference = objects["gateway"]["spec"]["listeners"][1]["tls"]["certificateRefs"][0]["name"]
    assert reference == objects["tls"]["metadata"]["name"]


def test_cert_manager_fills_the_secret_that_the_gateway_names() -> None:
    objects = manifests("filetype", policy(tls={"mode": "cert-manager", "issuer": "letsencrypt"}))
    certificate = objects["certificate"]["spec"]
    assert certificate["issuerRef"] == {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "letsencrypt"}
    reference = objects["gateway"]["spec"]["listeners"][1]["tls"]["certificateRefs"][0]["name"]
    assert certificate["secretName"] == reference


@pytest.mark.parametrize(("kind", "made"), [("istio", ["route"]), ("traefik", ["transport", "split", "route"])])
def test_an_existing_gateway_is_attached_to_in_its_dialect_and_not_made(kind: str, made: list[str]) -> None:
    objects = manifests("filetype", policy(gateway={"name": "shared", "namespace": "gateway-system", "class": kind}))
    assert list(objects) == made
    (parent,) = objects["route"]["spec"]["parentRefs"]
    assert (parent["name"], parent["namespace"]) == ("shared", "gateway-system")


@pytest.mark.parametrize(
    ("gateway", "spoken"),
    [
        ({}, "traefik"),
        ({"class": "traefik-internal"}, "traefik"),
        ({"class": "internal-traefik", "name": "shared"}, "traefik"),
        ({"class": "internal", "dialect": "traefik"}, "traefik"),
        ({"class": "traefik", "dialect": "traefik"}, "traefik"),
        ({"class": "traefik-internal", "dialect": "gateway-api"}, "gateway-api"),
        ({"class": "eg"}, "gateway-api"),
    ],
)
def test_traefik_is_spoken_to_as_such_whatever_its_class_is_called(gateway: dict[str, str], spoken: str) -> None:
    spec = policy(gateway=gateway, mirror={"to": INT8, "percent": 10})
    objects = manifests("filetype", spec)
    assert ("mirror" in objects) == (spoken == "traefik")
    assert ("timeouts" in objects["route"]["spec"]["rules"][0]) == (spoken == "gateway-api")
    if "name" not in gateway:
        assert objects["gateway"]["spec"]["gatewayClassName"] == gateway.get("class", "traefik")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": [{"to": FP32, "weight": 80}]}, "has weights 80 = 80, not 100"),
        ({"split": [*SPLIT, {"to": FP32, "weight": 1}]}, "80 + 20 + 1 = 101"),
        ({"split": [{"to": FP32, "weight": 50}, {"to": FP32, "weight": 50}]}, "names endpoint 'filetype-fp32' twice"),
        ({"host": "File Type"}, "host = 'File Type': is not a host name"),
        ({"path": "v2"}, "start it with '/', for example '/models/filetype'"),
        ({"path": "/a//b"}, "is not a URL path prefix"),
        ({"path": "/a/../b"}, "without '//', '/./' and '/../'"),
        ({"path": "/a/."}, "is not a URL path prefix"),
        ({"mirror": {"to": Endpoint("gpuserve-local", "other", 8000, None, "v2")}}, "mirrors to 'other'"),
        ({"mirror": {"to": INT8, "percent": "2.5%"}}, "mirrors whole percents only. Fix: change it, or use a gateway class of"),
        ({"tls": {"mode": "secret"}}, "add `secret:`"),
        ({"tls": {"mode": "none", "issuer": "x"}}, "which mode 'none' does not use"),
        ({"tls": {"plain": "serve"}}, "has no certificate, so all is plain"),
        ({"tls": {"mode": "generated"}, "gateway": SHARED}, "its listeners are its owner's"),
        ({"gateway": {"namespace": "gateway-system"}}, "has a namespace but no name"),
        (
            {"gateway": {"name": "shared", "namespace": "istio-ingress"}},
            "Fix: add `class:` with that Gateway's gatewayClassName",
        ),
        ({"gateway": {"http_port": 443}}, "both 443"),
        (
            {"gateway": {"dialect": "gateway-api"}},
            "Traefik answers mirrored requests with 500 in it, and ignores timeouts. Fix: remove",
        ),
        ({"gateway": {"class": "eg", "dialect": "nginx"}}, "gateway.dialect = 'nginx'"),
        (
            {"gateway": {"class": "traefik-lan"}, "mirror": {"to": INT8, "percent": "2.5%"}},
            "Traefik mirrors whole percents only",
        ),
        ({"gateway": {"clas": "traefik"}}, "gateway.clas = 'traefik': unknown field"),
        ({"timeout": "0s"}, "is not between 1ms and 99999s"),
        ({"namespace": "elsewhere"}, "has an endpoint in 'gpuserve-local'"),
        ({"host": pulumi.Output.from_input("x")}, "must be known at plan time"),
    ],
)
def test_refusals_say_what_to_write(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(**changes)


@pytest.mark.parametrize(
    ("written", "expected"), [("300s", "300s"), ("1h", "3600s"), ("250ms", "250ms"), ("1.5s", "1s500ms"), ("2m1ms", "120s1ms")]
)
def test_durations_are_whole_numbers(written: str, expected: str) -> None:
    assert duration(Duration(written)) == expected


def test_requests_in_clear_are_sent_to_the_listener_with_the_certificate() -> None:
    spec = policy(tls={"mode": "generated"}, path="/models/one", gateway={"https_port": 8443})
    objects = manifests("filetype", spec)
    (parent,) = objects["route"]["spec"]["parentRefs"]
    assert (parent["name"], parent["sectionName"]) == ("filetype", "https")
    assert objects["redirect"]["metadata"]["name"] == "filetype-redirect"
    assert objects["redirect"]["spec"] == {
        "parentRefs": [{**parent, "sectionName": "http"}],
        "hostnames": objects["route"]["spec"]["hostnames"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/models/one"}}],
                "filters": [
                    {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "port": 8443, "statusCode": 301}}
                ],
            }
        ],
    }
    sections = [listener["name"] for listener in objects["gateway"]["spec"]["listeners"]]
    assert sections == ["http", "https"]
    both = manifests("filetype", policy(tls={"mode": "generated", "plain": "serve"}))
    assert "redirect" not in both
    assert "sectionName" not in both["route"]["spec"]["parentRefs"][0]


@st.composite
def policies(draw: st.DrawFn) -> TrafficSpec:
    count = draw(st.integers(1, 4))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=count - 1, max_size=count - 1)))
    weights = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    endpoints = [Endpoint("gpuserve-local", f"filetype-{index}", 8000, None, "v2") for index in range(count)]
    mirror = draw(st.none() | st.builds(dict, to=st.sampled_from(endpoints), percent=st.integers(0, 100)))
    return policy(
        split=[{"to": endpoint, "weight": weight} for endpoint, weight in zip(endpoints, weights, strict=True)],
        mirror=mirror,
        timeout=draw(st.sampled_from(["1ms", "1.5s", "300s", "27h"])),
        gateway={"class": draw(st.sampled_from(["traefik", "envoy", "istio"]))},
        tls=draw(st.sampled_from([{}, {"mode": "secret", "secret": "s"}, {"mode": "cert-manager", "issuer": "i"}])),
    )


@given(policies())
def test_every_dialect_keeps_the_split(spec: TrafficSpec) -> None:
    for dialect in DIALECTS.values():
        objects = dialect.routes("filetype", spec)
        assert all(item["metadata"]["namespace"] == spec.namespace for item in objects.values())
        assert all(len(item["metadata"]["name"]) <= 63 for item in objects.values())
        split = objects.get("split")
        refs = split["spec"]["weighted"]["services"] if split else objects["route"]["spec"]["rules"][0]["backendRefs"]
        assert {ref["name"]: ref["weight"] for ref in refs} == {route.to.service: route.weight for route in spec.split}
        assert sum(ref["weight"] for ref in refs) == 100
        text = json.dumps(objects["route"]) + json.dumps(objects.get("mirror", {}))
        assert ("irror" in text) == (spec.mirror is not None)


@given(st.integers(0, 100_000))
def test_a_mirrored_share_survives_gateway_api(thousandths: int) -> None:
    percent = Percent(thousandths / 1000)
    mirror = portable(mirror={"to": INT8, "percent": percent})["route"]["spec"]["rules"][0]["filters"][0]["requestMirror"]
    fraction = mirror.get("fraction", {"numerator": mirror.get("percent"), "denominator": 100})
    assert fraction["numerator"] / fraction["denominator"] == pytest.approx(percent.fraction)


def test_a_stack_file_can_ask_before_there_is_a_policy() -> None:
    shared = GatewaySpec.parse(SHARED)
    found = list(problems(gateway=shared, tls=TlsSpec(mode="generated"), mirror=Percent("0.5%")))
    assert [(problem.field, problem.value) for problem in found] == [("tls.mode", "generated"), ("mirror.percent", "0.5%")]
    assert "gateway class of dialect gateway-api" in found[1].fix
    portable_class = GatewaySpec.parse({"class": "envoy"})
    assert not list(problems(gateway=portable_class, tls=TlsSpec(), mirror=Percent("0.5%")))
