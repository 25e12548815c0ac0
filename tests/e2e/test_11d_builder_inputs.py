"""`builder: job` with what it takes from its namespace: a signing key, a registry login, a volume, in the cluster that the stack names.

One program with one `ModelImage`: the stack's configuration holds an encrypted kubeconfig and names a context of it, while that of the
environment is of a cluster that does not answer. Its registry and that of the builder's image ask for a password, its model lies in a
claim and its image is signed with a key that this machine has not.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e_builder_project import NAMESPACE, Project, login
from e2e_cluster import Cluster, wait_for
from e2e_registry import PASSWORD_FILE, RegistryServer
from e2e_stack import Stack

from gpuserve_embedded.cluster.layout import registry_data
from gpuserve_images.builder.errors import JobError
from gpuserve_images.oci import File, Layer, SignatureError, bake, resolve, verify_signature
from gpuserve_images.pipeline.build import build
from gpuserve_images.spec import load_model

pytestmark = pytest.mark.e2e

GARBAGE = "hidden-7c1d-no-key"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with RegistryServer(folder, password=PASSWORD_FILE, listen="0.0.0.0") as server:  # noqa: S104 - pods reach it by the bridge's address
        yield server


@pytest.fixture
def door(stack: Stack, tmp_path: Path) -> Iterator[RegistryServer]:
    """What the embedded registry holds, behind a password."""
    folder = tmp_path / "door"
    folder.mkdir()
    (folder / "data").symlink_to(registry_data())
    with RegistryServer(folder, password=PASSWORD_FILE) as server:
        yield server


@pytest.fixture
def volume(stack: Stack) -> Iterator[Path]:
    """A folder of the node that a volume is made of, open to the pod's user as pytest's own are not; all is gone after the test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
        stack.cluster.kubectl("delete", "pv", "weights", "--ignore-not-found", "--wait=true")


@pytest.fixture
def project(stack: Stack, registry: RegistryServer, door: RegistryServer, volume: Path, tmp_path: Path) -> Project:
    return Project(tmp_path, stack, volume, registry, door)


ACCESS = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "weights", "namespace": NAMESPACE},
    "spec": {**ACCESS, "resources": {"requests": {"storage": "1Gi"}}},
}


def volume_object(folder: Path) -> dict[str, Any]:
    place = {"hostPath": {"path": str(folder), "type": "Directory"}}
    about = {"capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain"}
    claim = {"claimRef": {"name": "weights", "namespace": NAMESPACE}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "weights"},
        "spec": {**ACCESS, **place, **about, **claim},
    }


def secret(name: str, kind: str, **content: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": content}


def objects(cluster: Cluster) -> str:
    """Return all Jobs, pods and events of the namespace as text."""
    return cluster.kubectl("get", "jobs,pods,events", "-n", NAMESPACE, "-o", "yaml")


def refused(project: Project) -> str:
    """Return what a build says that cannot begin; within half a minute, where it may wait for ten."""
    started = time.monotonic()
    with pytest.raises(JobError) as caught:
        project.build()
    assert time.monotonic() - started < 30
    return str(caught.value)


def say_what_is_missing(project: Project, cluster: Cluster) -> None:
    """Name all that a build takes from a place that is not there, before anything is sent."""
    project.builder["context"] = "reel"
    said = project.pulumi("preview", fails=True)
    assert "builder.context = 'reel': is no context of config.kubernetes:kubeconfig. Fix: did you mean 'real'?" in said
    del project.builder["context"]

    said = project.pulumi("preview", fails=True)
    assert f"builder.namespace = '{NAMESPACE}': does not exist in the cluster" in said
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}})

    sent = len(project.registry.requests())
    said = project.pulumi("up", "--yes", "--skip-preview", fails=True)
    for missing in ("Secret signing", "Secret login", "PersistentVolumeClaim weights"):
        assert f"there is no {missing} in namespace {NAMESPACE}. Fix: create" in said
    assert {method for method, _, _ in project.registry.requests()[sent:]} <= {"GET", "HEAD"}


def say_what_is_of_no_use(project: Project, cluster: Cluster, volume: Path) -> str:
    """Say soon, not at the deadline, what is there and cannot be used; end with a login that can, and return what `up` said."""
    cluster.apply(CLAIM, secret("signing", "Opaque", SIGNING_KEY=GARBAGE), secret("login", "Opaque", login="x"))
    assert "claim weights: no persistent volumes available for this claim and no storage class is set" in refused(project)

    cluster.apply(volume_object(volume))
    wait_for("a bound claim", lambda: cluster.get("pvc", "weights", "-n", NAMESPACE)["status"]["phase"] == "Bound", seconds=60)
    said = refused(project)
    assert 'MountVolume.SetUp failed for volume "registry" : references non-existent secret key: .dockerconfigjson' in said
    assert "Make Secret login (`builder.registry_secret`) one of type kubernetes.io/dockerconfigjson" in said

    cluster.kubectl("delete", "secret", "login", "-n", NAMESPACE)
    kind = "kubernetes.io/dockerconfigjson"
    cluster.apply(secret("login", kind, **{".dockerconfigjson": json.dumps(login(*project.hosts, password=GARBAGE))}))
    started = time.monotonic()
    locked = project.pulumi("up", "--yes", "--skip-preview", fails=True)
    assert time.monotonic() - started < 60
    assert "its image cannot be pulled" in locked
    assert "401 Unauthorized" in locked
    assert "correct the login in Secret login (`builder.registry_secret`)" in locked
    cluster.apply(secret("login", kind, **{".dockerconfigjson": json.dumps(login(*project.hosts))}))
    return locked


def test_a_build_takes_its_inputs_from_its_namespace(
    stack: Stack, project: Project, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cluster, host = stack.cluster, project.registry.host
    say_what_is_missing(project, cluster)
    locked = say_what_is_of_no_use(project, cluster, volume)
    wrong = project.pulumi("up", "--yes", "--skip-preview", fails=True)
    assert "sign.key (env://SIGNING_KEY): is no private key in PEM" in wrong
    assert "attempt 2" not in wrong
    failed = objects(cluster)
    assert "build-small-fp32-" in failed

    cluster.apply(secret("signing", "Opaque", SIGNING_KEY=project.private))
    built = project.pulumi("up", "--yes", "--skip-preview")
    assert f"building in Job {NAMESPACE}/build-small-fp32-" in built
    reference = project.pulumi("stack", "output", "reference").strip()
    monkeypatch.setenv("DOCKER_CONFIG", project.variables["DOCKER_CONFIG"])
    assert verify_signature(reference, project.public).digest == reference.split("@")[1]
    wait_for("no Job", lambda: not cluster.get("jobs", "-n", NAMESPACE), seconds=30)

    state = project.pulumi("stack", "export")
    logins = (login(host), login(host, password=GARBAGE))
    key = yaml.safe_load(project.cluster.kubeconfig or "")["users"][0]["user"]["client-key-data"]
    hidden = (GARBAGE, key, project.private.splitlines()[1], *(one["auths"][host]["auth"] for one in logins))
    for text in (locked, wrong, failed, built, state, objects(cluster)):
        assert not [value for value in hidden if value in text]

    # The image is known again by its signer's public key, and another one under its tag is not taken for it.
    known = project.build()
    assert (known.reference, known.built) == (reference, False)
    found = resolve(known.tag)
    assert found is not None
    bake(known.tag, [Layer({"/models/small/1/model.onnx": File(b"evil")})], annotations=dict(found.annotations))
    with pytest.raises(SignatureError, match="is not signed"):
        project.build()

    # The same model in the same place on this machine is the same image.
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "weights").symlink_to(volume)
    for name, value in (
        ("GPUSERVE_PVC_MOUNTS", tmp_path / "claims"),
        ("SIGNING_KEY", project.private),
        ("XDG_CACHE_HOME", tmp_path / "cache"),
    ):
        monkeypatch.setenv(name, str(value))
    folder, base = Path(project.given["folder"]), project.given["base"]
    here = build(load_model(folder / "small.yaml"), "fp32", folder=folder, registry=f"{host}/here", base=base)
    assert here.built
    assert here.digest == reference.split("@")[1]
