"""`builder: job` on a pool of GPUs: the Job takes one of the simulated GPUs within the pool's quota, and gives it back."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from e2e_cluster import GPUS, NAMESPACE, ROOT, Cluster, holder, wait_for
from e2e_small_model import write_model_folder
from e2e_stack import Stack, empty_place

from gpuserve.node_pool.manifests import placement
from gpuserve.platform.load import load_stack
from gpuserve_images.builder.building import ClusterBuild
from gpuserve_images.builder.cluster import connect
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.spec import BuilderSpec
from gpuserve_images.oci import resolve
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.key import content_key, image_reference
from gpuserve_images.pipeline.report import BuildReport
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

pytestmark = pytest.mark.e2e

BUILD = "engines"
QUOTA = f"requests.{GPUS}"
OPTIONS = {"kind": "job", "registry_address": "http://10.244.0.1:5000", "cpu": "100m", "memory": "2Gi", "gpus": 1}


class Order:
    """A small model's engine for the pool that the stack itself serves on, in a place where nothing was built before."""

    def __init__(self, stack: Stack, root: Path) -> None:
        builds = {BUILD: {"engine": "tensorrt-rtx", "architectures": ["sm_80"]}}
        path = write_model_folder(root / "model", builds=builds)
        self.model, self.folder = load_model(path), path.parent
        self.registry = empty_place("gpus")
        self._cluster = connect(environment=stack.variables)
        self._placement = placement(load_stack("local", ROOT / "stacks").platform.pools_by_name["local"])

    @property
    def tag(self) -> str:
        return image_reference(self.model, content_key(self.model, BUILD, folder=self.folder, target=Target()), self.registry)

    def run(self, report: Callable[[str], None], **options: Any) -> BuildReport:
        spec = BuilderSpec.parse({**OPTIONS, **options})
        asked = ClusterBuild(self.model, BUILD, self.folder, self.registry, "", Target(), spec, self._placement)
        return asked.run(report, cluster=self._cluster)


@pytest.fixture
def order(stack: Stack, tmp_path: Path) -> Order:
    return Order(stack, tmp_path)


def used(cluster: Cluster) -> int:
    return int(cluster.get("resourcequota", "local", "-n", NAMESPACE)["status"]["used"][QUOTA])


def builders(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=builder")


@pytest.fixture
def full(quiet: Cluster) -> Iterator[None]:
    """Somebody else's pod has taken what the servers left of the six GPUs."""
    quiet.apply(holder(quiet, "holder", 6 - used(quiet)))
    wait_for("a quota that is used up", lambda: used(quiet) == 6, seconds=20)
    yield
    quiet.kubectl("delete", "pod", "holder", "-n", NAMESPACE, "--wait=true")
    wait_for("the quota", lambda: used(quiet) < 6, seconds=20)


def test_a_quota_that_is_used_up_is_the_error_and_nothing_is_published(quiet: Cluster, full: None, order: Order):
    said: list[str] = []
    with pytest.raises(JobError) as caught:
        order.run(said.append, start_within="8s")
    numbers = f"ResourceQuota {NAMESPACE}/local refuses its pod: 6 of 6 {QUOTA} are used, and the build requests 1"
    assert f"did not start within 8s: {numbers}. Fix: Raise `quota.gpus` of pool 'local', lower `builder.gpus`" in str(
        caught.value
    )
    assert f"waiting: {numbers}" in said
    assert resolve(order.tag) is None
    assert builders(quiet) == []
    assert f"build-small-{BUILD}" not in json.dumps(quiet.get("jobs", "-n", NAMESPACE))


def test_more_gpus_than_the_quota_ever_has_are_not_waited_for(quiet: Cluster, order: Order):
    started = time.monotonic()
    with pytest.raises(JobError, match=rf"of 6 {QUOTA} are used, and the build requests 7, more than there is in all"):
        order.run(lambda _: None, gpus=7)
    assert time.monotonic() - started < 30


def test_an_engine_is_built_on_one_gpu_of_the_pool_and_is_that_of_this_machine(
    quiet: Cluster, order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = used(quiet)
    said: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(order.run, said.append)

        def at_work() -> Any:
            assert not running.done(), running.result()
            return next((pod for pod in builders(quiet) if "nodeName" in pod["spec"]), None)

        pod = wait_for("a building pod on its node", at_work, seconds=300, every=0.1)
        taken = used(quiet)
        report = running.result(300)
    assert pod["spec"]["nodeSelector"] == {"gpuserve.io/pool": "local"}
    assert {"key": GPUS, "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
    assert pod["spec"]["containers"][0]["resources"]["limits"][GPUS] == "1"
    assert taken == before + 1
    wait_for("the GPU back", lambda: used(quiet) == before, seconds=60)
    assert report.summary.architectures == ("sm_80",)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = build(order.model, BUILD, folder=order.folder, registry=f"{order.registry}-here")
    assert here.built
    assert here.digest == report.digest
