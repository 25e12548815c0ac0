"""An image of a model alone is a volume of a pod: the server's image stays as it is, and another model is another volume."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml
from e2e_cluster import ROOT, Cluster, wait_for
from e2e_small_model import FEATURES, write_model_folder
from e2e_stack import Stack

from gpuserve.kubernetes.values import Placement
from gpuserve.serving.pod import pod_template
from gpuserve.serving.spec import ServingSpec
from gpuserve_images.bases.serving import default_base, ensure
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.pipeline.build import build
from gpuserve_images.records import silent
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

pytestmark = pytest.mark.e2e

NAMESPACE = "image-volume"
REGISTRY = "localhost:5000"
DOCUMENT = ROOT / "docs" / "model-images.md"
MOUNTS = Path("/run/gpuserve/containerd/state/io.containerd.grpc.v1.cri/image-volumes")


@pytest.fixture
def cluster(stack: Stack) -> Iterator[Cluster]:
    """The cluster with an empty namespace of restricted pods, which goes with all that is in it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    stack.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    yield stack.cluster
    stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The source of a small model, and the reference of an image that holds its repository and nothing else."""
    folder = tmp_path_factory.mktemp("model") / "model"
    path = write_model_folder(folder, samples=8, builds={"alone": {"engine": "onnxruntime", "base": "scratch"}})
    report = build(load_model(path), "alone", folder=folder, registry=f"{REGISTRY}/{NAMESPACE}")
    return folder / "small.onnx", report.reference


def documented() -> dict[str, Any]:
    """Return the pod in the document."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    (found,) = [pod for pod in map(yaml.safe_load, blocks) if pod.get("kind") == "Pod"]
    return found["spec"]


def pod(name: str, reference: str) -> dict[str, Any]:
    """Return a server's pod as gpuserve writes it, on the server's own image, with the document's volume for the model."""
    spec = ServingSpec(
        service="small",
        version=name,
        model="small",
        image=ensure(default_base(Target()), REGISTRY, silent),
        placement=Placement(pool="any", namespace=NAMESPACE, tolerations=({"operator": "Exists"},), simulated=True),
    )
    made = pod_template("default", spec, {}, {})["spec"]
    (server,), (volume,) = made["containers"], documented()["volumes"]
    volume["image"]["reference"] = reference
    server["volumeMounts"] += documented()["containers"][0]["volumeMounts"]
    made["volumes"].append(volume)
    del server["lifecycle"], made["topologySpreadConstraints"]  # nobody waits for its end, and it has no replicas
    made["terminationGracePeriodSeconds"] = 1
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": made}


def test_a_server_answers_from_a_model_that_is_mounted(cluster: Cluster, model: tuple[Path, str]):
    source, reference = model
    assert "@sha256:" in reference
    cluster.apply(pod("mounted", reference))
    cluster.kubectl("wait", "pod/mounted", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=120s")
    url = f"http://{cluster.get('pod/mounted', '-n', NAMESPACE)['status']['podIP']}:8000/v2/models/small"
    assert requests.get(f"{url}/ready", timeout=10).status_code == 200

    inputs = np.random.default_rng(3).normal(size=(3, FEATURES)).astype(np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": list(inputs.shape), "data": inputs.ravel().tolist()}
    answer = requests.post(f"{url}/infer", json={"inputs": [tensor]}, timeout=30)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    expected = Session(source).run({"x": inputs})["scores"]
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), expected, rtol=0, atol=1e-6)

    inside = ("exec", "mounted", "-n", NAMESPACE, "--", "sh", "-c")
    mount = next(line for line in cluster.kubectl(*inside, "cat /proc/mounts").splitlines() if " /models " in line)
    assert "ro" in mount.split()[3].split(","), mount
    assert "Read-only file system" in cluster.kubectl(*inside, "touch /models/small/new", check=False)

    (volume,) = MOUNTS.glob("*/*")
    assert os.path.ismount(volume)
    cluster.kubectl("delete", "pod/mounted", "-n", NAMESPACE, "--wait=true")
    wait_for("the volume's mount to go with its pod", lambda: not list(MOUNTS.glob("*/*")), seconds=60)


def test_a_model_that_is_not_there_is_named_by_the_pods_events(cluster: Cluster, model: tuple[Path, str]):
    missing = f"{model[1].split('@')[0]}@sha256:{'0' * 64}"
    cluster.apply(pod("missing", missing))

    def told() -> list[str]:
        events = cluster.get("events", "-n", NAMESPACE, "--field-selector", "involvedObject.name=missing,type=Warning")
        return [event["message"] for event in events if missing in event["message"]]

    assert any("not found" in message for message in wait_for("a warning that names the image", told, seconds=60))
