"""An autoscaler that aims at what its image was measured to answer: measured behind the real server, read from the registry beside it."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from e2e_cluster import ROOT, SUCCESSES, Cluster, run, wait_for
from e2e_stack import Stack, Workshop, empty_place
from e2e_traffic import Load

from gpuserve_images.oci.referrers import referrers
from gpuserve_images.verify.attached import CAPACITY, CREATED, REPORT

pytestmark = pytest.mark.e2e

NAME = "capacity"
NAMESPACE = f"gpuserve-{NAME}"
SERVER = f"{NAME}-fp32"
GPUSERVE = ROOT / ".venv/bin/gpuserve"
SHARE = 0.8
"""Of the measured capacity, as ADR 10 has it."""

PROMISE = "20s"
"""Kept on the busiest machine: what is tested here is where a capacity goes, not how large it is."""

CALM_SECONDS = 25
"""Longer than the rate window and than four looks of the autoscaler."""


@dataclass(frozen=True)
class Shop:
    """A stack of its own, whose one service scales without saying at what."""

    workshop: Workshop
    cluster: Cluster
    registry: str

    def pulumi(self, *arguments: str) -> str:
        """Run Pulumi to a good end and return what it said."""
        done = self.workshop.pulumi(*arguments, "-s", NAME)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def gpuserve(self, *arguments: str | Path) -> Any:
        """Return what a command prints with `--json`."""
        done = run([GPUSERVE, *arguments, "--json"], self.workshop.variables, cwd=self.workshop.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def get(self, *arguments: str) -> Any:
        return self.cluster.get(*arguments, "-n", NAMESPACE)

    def hpa(self) -> dict[str, Any]:
        return self.get("hpa", SERVER)

    def target(self) -> float:
        """Return the requests per second that the autoscaler aims at."""
        (metric,) = self.hpa()["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == "gpuserve_requests_per_second"
        return number(metric["pods"]["target"]["averageValue"])

    def seen(self) -> float:
        """Return the requests per second that the autoscaler saw last, 0 before it saw any."""
        metrics = self.hpa()["status"].get("currentMetrics") or [{}]
        return number(metrics[0].get("pods", {}).get("current", {}).get("averageValue", "0"))

    def image(self) -> str:
        return self.get("deployment", SERVER)["spec"]["template"]["spec"]["containers"][0]["image"]

    def address(self) -> str:
        return f"http://{self.get('service', SERVER)['spec']['clusterIP']}:8000"

    def replicas(self) -> int:
        return int(self.get("deployment", SERVER)["status"].get("readyReplicas", 0))

    def specs(self) -> dict[str, str]:
        """Return who the stack's objects are and what their specs say."""
        kinds = "deployments,services,horizontalpodautoscalers,networkpolicies,httproutes,gateways.gateway.networking.k8s.io"
        return {
            f"{found['kind']}/{found['metadata']['name']}": f"{found['metadata']['uid']} {json.dumps(found['spec'])}"
            for found in self.get(kinds)
        }

    def answered(self) -> int:
        """Return how many requests the server's pods have answered, by Triton's own count."""
        pods = self.get("pods", "-l", f"gpuserve.io/service={NAME}")
        texts = [requests.get(f"http://{pod['status']['podIP']}:8002/metrics", timeout=10).text for pod in pods]
        return sum(int(value) for text in texts for value in re.findall(rf"^{SUCCESSES}\{{[^}}]*\}} (\d+)", text, re.MULTILINE))


def number(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def write(workshop: Workshop, name: str, promise: str) -> str:
    """Write a stack whose images go to an empty place, with a model that promises a latency, and return that place."""
    path = workshop.folder / "stacks/models/filetype.yaml"
    model = yaml.safe_load(path.read_text())
    model["slo"]["latency_p95"] = promise
    path.write_text(yaml.safe_dump(model))
    registry = empty_place(name)
    service = {"scale": {"min": 1, "max": 2, "scale_down_window": "15s"}}
    # Its rules are among those that the cluster's Prometheus mounts.
    monitoring = {"alerts": False, "dashboards": False, "stack": "second"}
    workshop.write_stack(name, registry=registry, service=service, monitoring=monitoring)
    return registry


@pytest.fixture(scope="module")
def shop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    workshop = Workshop.below(tmp_path_factory.mktemp(NAME))
    shop = Shop(workshop, stack.cluster, write(workshop, NAME, PROMISE))
    assert workshop.pulumi("stack", "init", NAME).returncode == 0
    yield shop
    workshop.close(NAME, stack.cluster)


@pytest.fixture(scope="module")
def built(shop: Shop) -> float:
    """The stack is up; the requests per second that the build measured, in its own process."""
    # Before there is an image, nobody knows what it will answer; and what was looked at is what is then done.
    shop.pulumi("preview", "--save-plan", "plan.json")
    shop.pulumi("up", "--yes", "--skip-preview", "--plan", "plan.json")
    (image,) = shop.gpuserve("images", "ls", f"{shop.registry}/filetype")
    assert image["reference"] == shop.image()
    assert image["capacity"]["where"].startswith("in process")
    return image["capacity"]["requests_at_slo"]


@pytest.fixture(scope="module")
def measured(shop: Shop, built: float) -> dict[str, Any]:
    """What `gpuserve bench` measured behind the running server, and attached to its image."""
    before = shop.answered()
    model = shop.workshop.folder / "stacks/models/filetype.yaml"
    pace = ["--concurrency", "1", "--warm-up", "1s", "--duration", "4s"]
    report = shop.gpuserve("bench", model, "--url", shop.address(), *pace, "--attach", shop.image())
    (point,) = report["capacity"]["points"]
    assert point["requests"] > 20
    assert shop.answered() - before >= point["requests"]
    return report


def test_the_first_up_aims_at_what_the_build_measured(shop: Shop, built: float):
    assert shop.target() == pytest.approx(SHARE * built, abs=0.001)


def test_a_measurement_of_the_server_is_attached_to_its_image(shop: Shop, measured: dict[str, Any], built: float):
    capacity = measured["capacity"]
    assert capacity["where"] == f"model filetype at {shop.address()}, HTTP (binary tensors)"
    assert (capacity["cores"], capacity["latency_p95_ms"]) == (None, 20_000)
    assert capacity["requests_at_slo"] == capacity["points"][0]["requests_per_second"] != built
    first, last = sorted(referrers(shop.image(), artifact_type=REPORT), key=lambda report: report.annotations[CREATED])
    assert json.loads(first.annotations[CAPACITY])["requests_at_slo"] == built
    summary = {name: value for name, value in capacity.items() if name not in {"points", "notes"}}
    assert json.loads(last.annotations[CAPACITY]) == summary

    report = shop.gpuserve("images", "report", shop.image())
    assert (report["capacity"], report["image"], report["build"]) == (capacity, shop.image(), "fp32")
    assert report["parity"]["top1_agreement"] == 1
    (image,) = shop.gpuserve("images", "ls", f"{shop.registry}/filetype")
    status = run([GPUSERVE, "status", "-s", NAME, "--json"], shop.workshop.variables, cwd=shop.workshop.folder)
    read = json.loads(status.stdout)["services"][NAME]["capacity"]["fp32"]
    for found in (image["capacity"], read):
        assert {name: value for name, value in found.items() if name not in {"points", "notes"}} == summary


def test_an_up_changes_nothing_and_a_refresh_takes_the_measurement_over(shop: Shop, measured: dict[str, Any], built: float):
    before = shop.specs()
    shop.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert shop.specs() == before
    assert shop.target() == pytest.approx(SHARE * built, abs=0.001)

    shop.pulumi("refresh", "--yes", "--skip-preview")
    assert shop.specs() == before
    shop.pulumi("up", "--yes", "--skip-preview")
    assert shop.target() == pytest.approx(SHARE * measured["capacity"]["requests_at_slo"], abs=0.001)
    changed = {name for name, spec in shop.specs().items() if before[name] != spec}
    assert changed == {f"HorizontalPodAutoscaler/{SERVER}"}
    shop.pulumi("preview", "--expect-no-changes")

    rendered = run([GPUSERVE, "render", "-s", NAME, "--format", "json"], shop.workshop.variables, cwd=shop.workshop.folder)
    (hpa,) = [item for item in json.loads(rendered.stdout)["items"] if item["kind"] == "HorizontalPodAutoscaler"]
    assert hpa["spec"]["metrics"] == shop.hpa()["spec"]["metrics"]


def test_load_below_the_target_adds_nothing_and_load_above_it_a_replica(shop: Shop, measured: dict[str, Any]):
    target = shop.target()

    def active() -> bool:
        conditions = {item["type"]: item["status"] for item in shop.hpa()["status"].get("conditions", ())}
        return conditions.get("ScalingActive") == "True" and shop.seen() > target / 10

    with Load(shop.address(), threads=1, pause=2 / target) as load:
        wait_for("the autoscaler to see the load", active, seconds=60, every=1)
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end:
            assert shop.seen() < target
            assert shop.hpa()["status"]["desiredReplicas"] == 1
            time.sleep(1)
    assert set(load.outcomes) == {"200"}, load.outcomes

    with Load(shop.address(), threads=8) as load:
        wait_for("a second ready replica", lambda: shop.replicas() == 2, seconds=120, every=1)
    assert set(load.outcomes) == {"200"}, load.outcomes


def test_an_image_that_keeps_no_promise_is_refused_before_the_cluster_is_touched(stack: Stack, workshop: Workshop):
    name = "unmeasured"
    registry = write(workshop, name, "0.001ms")
    workshop.pulumi("stack", "init", name)
    said = []
    # The build measures it, so the first `up` knows it then; a preview of what is built knows it at once.
    for command in (["up", "--yes", "--skip-preview"], ["preview"]):
        done = workshop.pulumi(*command, "-s", name)
        assert done.returncode != 0
        assert "Traceback" not in done.stdout + done.stderr
        said.append(done.stdout)
    rendered = run([GPUSERVE, "render", "-s", name], workshop.variables, cwd=workshop.folder)
    assert (rendered.returncode, rendered.stdout) == (1, "")
    assert f"Pulumi.{name}.yaml: config.gpuserve:platform.services[0].scale: " in rendered.stderr
    for text in (*said, rendered.stderr):
        assert re.search(
            rf"from the measured capacity, but {registry}/filetype[@:]\S+ carries none that keeps the SLO", text
        ), text
        for advice in ("`queue_time:`", "`gpuserve bench MODEL --attach ", "`pulumi refresh`", "`slo.latency_p95`"):
            assert advice in text
    assert f"gpuserve-{name}" not in stack.cluster.kubectl("get", "namespaces", "-o", "name")
