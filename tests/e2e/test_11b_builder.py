"""`builder: job`: models are built by a Job in the cluster, and the image is the one that this machine would have made."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml
from e2e_cluster import ROOT, Cluster, run, wait_for
from e2e_ensemble import ENSEMBLE, write_ensemble
from e2e_stack import Stack, Workshop, empty_place
from numpy.typing import NDArray

from gpuserve.kubernetes.cluster import ClusterChoice
from gpuserve_images.builder.cluster import connect
from gpuserve_images.builder.errors import JobError
from gpuserve_images.oci import resolve
from gpuserve_images.pipeline.build import build
from gpuserve_images.samples.codec import load_codec
from gpuserve_images.spec import load_model

pytestmark = pytest.mark.e2e

NAME = "jobs"
NAMESPACE = "gpuserve-jobs"
JOB = {"kind": "job", "registry_address": "http://10.244.0.1:5000", "cpu": "100m", "memory": "2Gi"}


def write(workshop: Workshop, **builder: Any) -> None:
    """Write the stack with an empty place for its images, so that nothing of it was built before."""
    registry = empty_place("builder")
    service = {"versions": [{"build": "int8", "weight": 100}]}
    workshop.write_stack(NAME, registry=registry, service=service, builder={**JOB, **builder})


def reference(said: str) -> str:
    """Return the image that the pod said it built; the engine shows each line twice, as it comes and at the end."""
    (found,) = set(re.findall(r"built (localhost:5000/\S+@sha256:[0-9a-f]{64}) in", said))
    return found


def jobs(cluster: Cluster) -> list[str]:
    return [job["metadata"]["name"] for job in cluster.get("jobs", "-n", NAMESPACE)]


def made_jobs(cluster: Cluster) -> int:
    """Return how many pods Jobs have made, by what the Job controller says it did."""
    return len(cluster.get("events", "-n", NAMESPACE, "--field-selector", "reason=SuccessfulCreate,involvedObject.kind=Job"))


@pytest.fixture
def shop(stack: Stack, workshop: Workshop):
    workshop.pulumi("stack", "init", NAME)
    yield workshop
    workshop.close(NAME, stack.cluster)


def test_the_image_of_an_ensemble_is_the_one_of_this_machine_and_is_made_once(
    stack: Stack, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(shop)
    weights = write_ensemble(shop.folder / "stacks" / "models")
    up = shop.pulumi("up", "--yes", "--skip-preview", "-s", NAME, timeout=900)
    assert up.returncode == 0, up.stdout + up.stderr
    for line in ("quantise", "verify", f"building in Job {NAMESPACE}/build-filetype-int8-"):
        assert line in up.stdout, up.stdout
    assert jobs(stack.cluster) == []
    built = reference(up.stdout)
    (pod,) = stack.cluster.get("pods", "-n", NAMESPACE)
    assert pod["spec"]["containers"][0]["image"] == built
    codec = load_codec("filetype.py", ROOT / "stacks" / "models")
    seen, answer = asked(pod, codec.encode(Path(__file__))["bytes"])
    assert codec.decode({"target_label": seen}) == "python"
    np.testing.assert_allclose(answer, seen @ weights, rtol=1e-4, atol=1e-5)

    told = gpuserve(shop, "status")["services"][NAME]
    assert told["model"] == ENSEMBLE
    assert told["capacity"]["int8"]["where"].startswith("ensemble whole of filetype, rank in process")
    assert told["capacity"]["int8"]["requests_at_slo"] > 0
    assert gpuserve(shop, "predict", NAME, __file__)["answer"] == "python"
    pasted = subprocess.run(["bash", "-c", told["example"]], capture_output=True, text=True, timeout=60, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert {output["name"] for output in json.loads(pasted.stdout)["outputs"]} == {"seen", "answer"}

    made = made_jobs(stack.cluster)
    again = shop.pulumi("up", "--yes", "--skip-preview", "-s", NAME)
    assert again.returncode == 0, again.stderr
    assert "building in Job" not in again.stdout
    assert made_jobs(stack.cluster) == made

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = shop.folder / "stacks" / "models" / "filetype.yaml"
    here = build(load_model(path), "int8", folder=path.parent, registry=built.split("/filetype")[0] + "-here")
    assert here.built
    assert here.digest == built.split("@")[1]


def test_a_killed_pod_is_replaced_and_goes_on_where_it_was(stack: Stack, shop: Workshop):
    write(shop)
    command = ["pulumi", "--non-interactive", "--color", "never", "up", "--yes", "--skip-preview", "-s", NAME]
    with subprocess.Popen(
        command, cwd=shop.folder, env=environment(shop), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as up:
        pod = wait_for("a quantised model", lambda: with_log(stack.cluster, "share quantise"), seconds=600)
        stack.cluster.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force")
        said = up.communicate(timeout=600)[0]
    assert up.returncode == 0, said
    assert "attempt 2" in said
    assert "quantise (registry" in said
    assert resolve(reference(said)) is not None


def test_the_deadline_and_a_model_below_its_bar(stack: Stack, shop: Workshop):
    write(shop, deadline="4s")
    late = shop.pulumi("up", "--yes", "--skip-preview", "-s", NAME)
    assert late.returncode != 0
    assert "was stopped at its deadline" in late.stdout
    assert "Raise `builder.deadline`" in late.stdout

    write(shop)
    path = shop.folder / "stacks" / "models" / "filetype.yaml"
    model = yaml.safe_load(path.read_text())
    model["builds"]["int8"]["verify"] = {"max_abs_error": 1e-9}
    path.write_text(yaml.safe_dump(model))
    wrong = shop.pulumi("up", "--yes", "--skip-preview", "-s", NAME, timeout=900)
    assert wrong.returncode != 0
    assert "max_abs_error is" in wrong.stdout
    assert "attempt 2" not in wrong.stdout
    assert "Traceback" not in wrong.stdout + late.stdout


def test_who_may_not_make_jobs_is_told_at_preview(stack: Stack, shop: Workshop, tmp_path: Path):
    write(shop)
    stack.cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": "default"}})
    token = stack.cluster.kubectl("create", "token", "nobody", "-n", "default").strip()
    kubeconfig = yaml.safe_load(Path(stack.variables["KUBECONFIG"]).read_text())
    kubeconfig["users"].append({"name": "nobody", "user": {"token": token}})
    kubeconfig["contexts"].append({"name": "nobody", "context": {**kubeconfig["contexts"][0]["context"], "user": "nobody"}})
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    with pytest.raises(JobError, match=f"may not create jobs in namespace {NAMESPACE}"):
        connect(ClusterChoice("nobody"), {"KUBECONFIG": str(file)}).require_rights(NAMESPACE)
    assert not connect(ClusterChoice("nobody"), {"KUBECONFIG": str(file)}).lacks("Secret", "default", "nothing")
    connect(environment={"KUBECONFIG": str(file)}).require_rights(NAMESPACE)
    assert connect(environment={"KUBECONFIG": str(file)}).lacks("Secret", "default", "nothing")


def gpuserve(shop: Workshop, command: str, *arguments: str) -> dict[str, Any]:
    """Return what a command of `gpuserve` says of the stack."""
    program = [ROOT / ".venv/bin/gpuserve", command, *arguments, "-s", NAME, "--stacks", shop.folder / "stacks", "--json"]
    done = run(program, shop.variables)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def asked(pod: dict[str, Any], raw: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the ensemble in a pod says: the outputs `seen` and `answer`."""
    inputs = [{"name": "raw", "datatype": "INT32", "shape": list(raw.shape), "data": raw.ravel().tolist()}]
    url = f"http://{pod['status']['podIP']}:8000/v2/models/{ENSEMBLE}/infer"
    said = requests.post(url, json={"inputs": inputs}, timeout=30).json()
    outputs = {one["name"]: np.array(one["data"], np.float32).reshape(one["shape"]) for one in said["outputs"]}
    return outputs["seen"], outputs["answer"]


def environment(shop: Workshop) -> dict[str, str]:
    return {**os.environ, **shop.variables}


def with_log(cluster: Cluster, line: str) -> str | None:
    """Return a building pod whose log has the line."""
    for pod in cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=builder"):
        name = pod["metadata"]["name"]
        if line in cluster.kubectl("logs", name, "-n", NAMESPACE, check=False):
            return name
    return None
