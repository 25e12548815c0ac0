"""What people get wrong: each is refused before anything happens, with file, field, value, reason and fix."""

import re
from collections.abc import Callable
from typing import Any

import pytest

Change = Callable[[Any], object]


def _second_service(sandbox: Any, **changes: object) -> None:
    sandbox.platform["services"].append({**sandbox.service, "name": "other", "model": "tiny", **changes})


def _two_pools(sandbox: Any, **changes: object) -> None:
    pool = sandbox.platform["pools"][0]
    sandbox.platform["pools"].append({**pool, "name": "other", **changes})


def _one_deployment_for_two(sandbox: Any) -> None:
    sandbox.model["builds"]["two-fp32"] = {"engine": "onnxruntime"}
    sandbox.service.update(versions=[{"build": "two-fp32", "weight": 100}])
    sandbox.service["traffic"].pop("mirror")
    versions = [{"build": "fp32", "weight": 100}]
    _second_service(sandbox, name="tiny-two", versions=versions, traffic={"host": "two.example.com"})


def _renamed(sandbox: Any, build: str) -> list[dict[str, object]]:
    sandbox.model["builds"][build] = {"engine": "onnxruntime"}
    sandbox.service["traffic"].pop("mirror")
    return [{"build": build, "weight": 100}]


def _production(sandbox: Any, **changes: object) -> None:
    sandbox.platform["environment"] = "prod"
    sandbox.service["traffic"]["tls"] = {"mode": "generated"}
    sandbox.service["scale"].update(min=2)
    sandbox.service.update(changes)


# What is changed, then what the message must say beside the file: field, value, reason, fix.
STACK_FILE: dict[str, tuple[Change, list[str]]] = {
    "unknown field": (
        lambda box: box.service.update(replica=3),
        ["services[0].replica", "3", "unknown field", "Fix: "],
    ),
    "unknown field, near miss": (
        lambda box: box.service["scale"].update(queue_tme="10ms"),
        ["services[0].scale.queue_tme", "'10ms'", "unknown field", "did you mean 'queue_time'?"],
    ),
    "scales on two signals": (
        lambda box: box.service["scale"].update(qps=5),
        ["services[0].scale", "names queue_time and qps", "give exactly one signal"],
    ),
    "scales on a capacity that nothing bounds": (
        lambda box: (box.service.update(scale={"min": 1, "max": 3}), box.model.pop("slo")),
        ["services[0].scale", "without a target", "promises no latency", "`slo: {latency_p95: 50ms}`"],
    ),
    "wrong unit": (
        lambda box: box.service.update(resources={"memory": "16Gb"}),
        ["services[0].resources.memory", "'16Gb'", "units: ", "16Gi"],
    ),
    "weights not 100": (
        lambda box: box.service["versions"][0].update(weight=70),
        ["services[0].versions", "70 + 20 = 90, not 100", "add up to 100"],
    ),
    "no such pool": (
        lambda box: box.service.update(pool="locall"),
        ["services[0].pool", "'locall'", "no such pool", "did you mean 'local'?"],
    ),
    "no such model": (
        lambda box: box.service.update(model="tinny"),
        ["services[0].model", "'tinny'", "no such model", "did you mean 'tiny'?"],
    ),
    "no such build": (
        lambda box: box.service["versions"][0].update(build="fp23"),
        ["services[0].versions[0].build", "'fp23'", "no such build", "did you mean 'fp32'?"],
    ),
    "two services whose versions are one Deployment": (
        _one_deployment_for_two,
        [
            "services[1].versions[0].build = 'fp32'",
            "gives the name 'tiny-two-fp32', which is that of services[0].versions[0].build too",
            "rename the service or the build",
        ],
    ),
    "a service that is called as another's mirror": (
        lambda box: _second_service(box, name="tiny-mirror", traffic={"host": "other.example.com"}),
        ["services[0].traffic.mirror.to", "'tiny-mirror', which is that of services[1].name too"],
    ),
    "two pools in one namespace": (
        lambda box: _two_pools(box, namespace="gpuserve-local"),
        ["pools[1].namespace", "'gpuserve-local'", "is that of pools[0].namespace too", "a namespace of its own"],
    ),
    "one node in two pools": (
        lambda box: (box.platform["pools"][0].update(nodes=["a", "b"]), _two_pools(box, nodes=["b"])),
        ["pools[1].nodes[0]", "'b'", "is that of pools[0].nodes[1] too", "for one pool"],
    ),
    "a pool's name that is a list": (
        lambda box: _two_pools(box, name=["a"]),
        ["pools[1].name", "['a']"],
    ),
    "names too long together": (
        lambda box: box.service.update(name="t" * 35, model="tiny", versions=_renamed(box, "b" * 30)),
        ["services[0].versions[0].build", "of 66 characters, and a name has 63 at most", "shorten the name"],
    ),
    "memory of the quota": (
        lambda box: box.platform["pools"][0]["quota"].update(memory="3Gi"),
        ["pools[0].quota.memory", "'3Gi'", "less than the 4Gi that the services on it need", "at least 6Gi"],
    ),
    "processors of the quota": (
        lambda box: box.platform["pools"][0]["quota"].update(cpu="100m"),
        ["pools[0].quota.cpu", "'100m'", "less than the 0.2 processors", "at least 0.3 processors"],
    ),
    "no GPU to spare for a rollout": (
        lambda box: box.platform["pools"][0]["quota"].update(gpus=2),
        [
            "pools[0].quota.gpus",
            "2",
            "less than the 3 GPUs of a rollout",
            "at least 3 GPUs, or write `rollout: in-place` for tiny",
        ],
    ),
    "no memory to spare for a rollout": (
        lambda box: box.platform["pools"][0]["quota"].update(memory="5Gi"),
        ["pools[0].quota.memory", "'5Gi'", "less than the 6Gi of a rollout", "at least 6Gi"],
    ),
    "a start that never ends": (
        lambda box: box.service.update(startup_timeout="2d"),
        ["services[0].startup_timeout", "'2d'", "is not between 1s and 24h"],
    ),
    "a drain that never ends": (
        lambda box: box.service.update(drain="2h"),
        ["services[0].drain", "'2h'", "is not between 1s and 1h", "write for example 120s"],
    ),
    "another rollout than the two": (
        lambda box: box.service.update(rollout="in_place"),
        ["services[0].rollout", "'in_place'", "surge", "in-place"],
    ),
    "memory below the server's own parts": (
        lambda box: box.service.update(resources={"memory": "256Mi"}),
        ["services[0].resources.memory", "'256Mi'", "less than the 512Mi of it", "raise it to 512Mi or more"],
    ),
    "a unit twice": (
        lambda box: box.service.update(resources={"memory": "1Gi512Mi"}),
        ["services[0].resources.memory", "'1Gi512Mi'", "is not a size"],
    ),
    "half a GPU": (
        lambda box: box.service.update(resources={"gpus": 0.5}),
        ["services[0].resources.gpus", "0.5", "whole devices only"],
    ),
    "an address of a network": (
        lambda box: box.platform.update(gateway_networks=["10.0.0.5/16"]),
        ["gateway_networks[0]", "'10.0.0.5/16'", "is no network"],
    ),
    "a network without its length": (
        lambda box: box.platform.update(gateway_networks=["10.0.0.7"]),
        ["gateway_networks[0]", "'10.0.0.7'", "CIDR", "write '10.0.0.7/32'"],
    ),
    "more replicas than there may be": (
        lambda box: box.service["scale"].update(max=20_000),
        ["services[0].scale.max", "20000", "10000"],
    ),
    "an endless rate": (
        lambda box: (box.service["scale"].pop("queue_time"), box.service["scale"].update(qps=float("inf"))),
        ["services[0].scale.qps", "finite"],
    ),
    "a host that is an address": (
        lambda box: box.service["traffic"].update(host="10.0.0.1"),
        ["services[0].traffic.host", "'10.0.0.1'", "is an IP address", "write a DNS name"],
    ),
    "production in clear": (
        lambda box: (_production(box), box.service["traffic"].pop("tls")),
        ["services[0].traffic.tls.mode", "'none'", "in clear, and `environment` is prod", "cert-manager"],
    ),
    "production in clear beside TLS": (
        lambda box: _production(box, traffic={**box.service["traffic"], "tls": {"mode": "generated", "plain": "serve"}}),
        ["services[0].traffic.tls.plain", "'serve'", "in clear too, and `environment` is prod", "remove it"],
    ),
    "a redirect named as another service": (
        lambda box: (
            box.service["traffic"].update(tls={"mode": "generated"}),
            _second_service(box, name="tiny-redirect", traffic={"host": "other.example.com"}),
        ),
        ["services[0].traffic.tls.mode", "'tiny-redirect', which is that of services[1].name too", "rename the service"],
    ),
    "production on one replica": (
        lambda box: _production(box, scale={"min": 1, "max": 3, "queue_time": "10ms"}),
        ["services[0].scale.min", "1", "`environment` is prod", "2 or more"],
    ),
    "two services on one host and path": (
        _second_service,
        ["services[1].traffic.host", "'tiny.example.com'", "already taken by service 'tiny'", "another host or another path"],
    ),
    "two services on one host and path, written differently": (
        lambda box: (
            box.service["traffic"].update(path="/a"),
            _second_service(box, traffic={"host": "tiny.example.com", "path": "/a/"}),
        ),
        ["services[1].traffic.host", "with path '/a' is already taken by service 'tiny'"],
    ),
    "name that is no DNS label": (
        lambda box: box.service.update(name="Tiny_Model", model="tiny"),
        ["services[0].name", "'Tiny_Model'", "is not a DNS label", "lower-case letters"],
    ),
    "pool name that is no DNS label": (
        lambda box: box.platform["pools"][0].update(name="1st"),
        ["pools[0].name", "'1st'", "is not a DNS label", "starting with a letter"],
    ),
    "part of a GPU": (
        lambda box: box.platform["pools"][0].update(gpus=0.5),
        ["pools[0].gpus", "0.5", "whole", "MIG"],
    ),
    "port out of range": (
        lambda box: box.service["traffic"].update(gateway={"http_port": 80800}),
        ["services[0].traffic.gateway.http_port", "80800", "less than or equal to 65535", "Fix: "],
    ),
    "missing field": (
        lambda box: box.service.pop("traffic"),
        ["services[0].traffic", "missing", "add `traffic:`"],
    ),
}

MODEL_FILE: dict[str, tuple[Change, list[str]]] = {
    "missing": (lambda box: box.onnx.unlink(), ["source.file", "tiny.onnx", "does not exist", "Fix: "]),
    "empty": (lambda box: box.onnx.write_bytes(b""), ["source.file", "tiny.onnx", "is empty", "0 bytes", "Fix: "]),
    "truncated": (
        lambda box: box.onnx.write_bytes(box.onnx.read_bytes()[:-20]),
        ["source.file", "tiny.onnx", "truncated", "Fix: "],
    ),
    "not ONNX": (
        lambda box: box.onnx.write_text("<!DOCTYPE html><html>not found</html>"),
        ["source.file", "tiny.onnx", "ONNX", "Fix: "],
    ),
}


@pytest.mark.parametrize("case", STACK_FILE)
def test_a_wrong_stack_file_is_refused(case: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    change, expected = STACK_FILE[case]
    change(sandbox)
    sandbox.write()
    message = refusal()
    assert len(message.splitlines()) == 1
    for words in (f"{sandbox.stack_file}: config.gpuserve:platform.", *expected):
        assert words in message


@pytest.mark.parametrize("case", MODEL_FILE)
def test_a_wrong_model_file_is_refused(case: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    change, expected = MODEL_FILE[case]
    change(sandbox)
    message = refusal()
    assert len(message.splitlines()) == 1
    for words in (f"{sandbox.models / 'tiny.yaml'}: ", *expected):
        assert words in message


def test_all_problems_of_a_file_come_at_once(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.service["resources"] = {"memory": "16Gb"}
    sandbox.service["replica"] = 3
    sandbox.service["pool"] = "nowhere"
    _second_service(sandbox, pool="elsewhere", resources={}, traffic={"host": "other.example.com"})
    sandbox.platform["services"][1].pop("replica")
    sandbox.platform["regstry"] = "x"
    sandbox.write()
    message = refusal()
    for field in ("services[0].resources.memory", "services[0].replica", "regstry"):
        assert field in message
    assert message.count("Fix: ") == len(message.splitlines())


def test_problems_of_stack_and_model_file_come_together(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.service["pool"] = "nowhere"
    sandbox.model["builds"]["fp32"]["precison"] = "fp16"
    sandbox.model["slo"]["latency_p95"] = "50"
    sandbox.write()
    message = refusal()
    for words in ("services[0].pool", "tiny.yaml: builds.fp32.precison", "tiny.yaml: slo.latency_p95"):
        assert words in message


@pytest.mark.parametrize("text", ["config:\n  a: 1\n hunter2: [\n", "a: 1\nhunter2 {\n", 'a: "hunter2\n'])
@pytest.mark.parametrize("which", ["stack_file", "model_file"])
def test_a_syntax_error_names_the_line_and_does_not_repeat_it(
    text: str, which: str, sandbox: Any, refusal: Callable[[], str]
) -> None:
    (sandbox.stack_file if which == "stack_file" else sandbox.models / "tiny.yaml").write_text(text)
    message = refusal()
    assert re.search(r"is not YAML: line \d+, column \d+: \w+", message)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "word"), [("config: [", "is not YAML"), ("- a\n", "not a YAML mapping"), ("config: {}\n", "missing")]
)
def test_a_file_that_is_no_stack_file_is_refused(text: str, word: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.stack_file.write_text(text)
    assert word in refusal()


def test_an_unknown_environment_names_the_known_ones(sandbox: Any, cli: Callable[..., Any]) -> None:
    result = cli("check", "-s", "prood", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    assert "Pulumi.prood.yaml" in result.stderr
    assert "local" in result.stderr


def test_a_known_environment_is_named_in_full(sandbox: Any, cli: Callable[..., Any]) -> None:
    sandbox.stack_file.rename(sandbox.stacks / "Pulumi.team.eu.yaml")
    assert cli("check", "-s", "team.eu", "--stacks", sandbox.stacks).exit_code == 0
    assert cli("check", "-s", "team", "--stacks", sandbox.stacks).stderr.endswith("that exist here: team.eu\n")


def test_debug_shows_the_traceback(sandbox: Any, cli: Callable[..., Any]) -> None:
    sandbox.service["pool"] = "nowhere"
    sandbox.write()
    result = cli("--debug", "check", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    assert result.exc_info[2] is not None
    assert "nowhere" in str(result.exception)
