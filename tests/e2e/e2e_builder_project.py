"""A Pulumi program with one `ModelImage` that a Job builds from what is in its namespace, and all that it is given."""

import base64
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e_cluster import run
from e2e_registry import CREDENTIALS, RegistryServer
from e2e_signing import key_pair
from e2e_small_model import write_model_folder
from e2e_stack import Stack

from gpuserve.kubernetes.cluster import ClusterChoice
from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.building import ClusterBuild
from gpuserve_images.builder.cluster import connect
from gpuserve_images.builder.image import ensure_image
from gpuserve_images.builder.spec import BuilderSpec
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.pipeline.report import BuildReport
from gpuserve_images.records import silent
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

NAMESPACE = "builds"
PROGRAM = """
import json, os
from pathlib import Path
import pulumi
from gpuserve.kubernetes.values import Placement
from gpuserve_images.resource import ModelImage
from gpuserve_images.spec import load_model

given = json.loads(os.environ["GIVEN"])
folder = Path(given.pop("folder"))
place = Placement("p", "gpuserve-p", tolerations=({"operator": "Exists"},))
image = ModelImage("small", load_model(folder / "small.yaml"), build="fp32", folder=folder, placement=place, **given)
pulumi.export("reference", image.reference)
"""


class Project:
    """A Pulumi program with a builder's options, a kubeconfig and a login of its own."""

    def __init__(self, root: Path, stack: Stack, volume: Path, registry: RegistryServer, door: RegistryServer) -> None:
        self.private, self.public = key_pair()
        self.registry, self.hosts = registry, (registry.host, door.host)
        folder = model_in_a_claim(root, volume, self.public)
        self.folder = root / "project"
        self.folder.mkdir()
        self.builder: dict[str, Any] = {
            "kind": "job",
            "registry_address": registry.host.replace("localhost", "http://10.244.0.1"),
            "image": ensure_image("localhost:5000/models", (), silent).replace("localhost:5000", door.host),
            "namespace": NAMESPACE,
            "secrets": ["signing"],
            "registry_secret": "login",
            "cpu": "100m",
            "memory": "2Gi",
        }
        self.given = {"folder": str(folder), "registry": f"{registry.host}/models"}
        options = {"virtualenv": sys.prefix}
        project = {"name": "inputs", "runtime": {"name": "python", "options": options}}
        (self.folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
        (self.folder / "__main__.py").write_text(PROGRAM)
        (root / "state").mkdir()
        self.cluster = elsewhere(root / "kubeconfig", stack)
        self.variables = stack.variables | {
            "PULUMI_BACKEND_URL": f"file://{root / 'state'}",
            "KUBECONFIG": str(root / "kubeconfig"),
            "DOCKER_CONFIG": str(docker_config(root / "docker", registry.host)),
        }
        self.given["base"] = run_here(
            self.variables, lambda: bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
        )
        self.pulumi("stack", "init", "test")
        self.pulumi("config", "set", "kubernetes:context", self.cluster.context or "")
        self.pulumi("config", "set", "--secret", "kubernetes:kubeconfig", self.cluster.kubeconfig or "")

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        variables = {**self.variables, "GIVEN": json.dumps({**self.given, "builder": self.builder})}
        done = run(["pulumi", "--non-interactive", "--color", "never", *arguments], variables, cwd=self.folder, timeout=200)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def build(self) -> BuildReport:
        """Do what an `up` does for the image, without Pulumi."""
        place = Placement("p", "gpuserve-p", tolerations=({"operator": "Exists"},))
        spec, folder = BuilderSpec.parse(self.builder), Path(self.given["folder"])
        model = load_model(folder / "small.yaml")
        asked = ClusterBuild(model, "fp32", folder, self.given["registry"], self.given["base"], Target(), spec, place)
        cluster = connect(self.cluster)
        return run_here(self.variables, lambda: asked.run(lambda _: None, cluster=cluster))


def run_here(variables: dict[str, str], work: Any) -> Any:
    """Run something with the login of the project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", variables["DOCKER_CONFIG"])
        return work()


def elsewhere(file: Path, stack: Stack) -> ClusterChoice:
    """Write a kubeconfig of a cluster that is not there, for the environment; return the real one, as a stack's configuration says it."""
    config = yaml.safe_load(Path(stack.variables["KUBECONFIG"]).read_text())
    gone = {**config, "clusters": [{**config["clusters"][0], "cluster": {"server": "https://127.0.0.1:1"}}]}
    file.write_text(yaml.safe_dump(gone))
    config["contexts"][0]["name"] = "real"
    return ClusterChoice(context="real", kubeconfig=yaml.safe_dump({**config, "current-context": "gone"}))


def docker_config(folder: Path, host: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(login(host)))
    return folder


def login(*hosts: str, password: str = CREDENTIALS[1]) -> dict[str, Any]:
    auth = base64.b64encode(f"{CREDENTIALS[0]}:{password}".encode()).decode()
    return {"auths": {host: {"auth": auth} for host in hosts}}


def model_in_a_claim(root: Path, volume: Path, public: str) -> Path:
    """Write the model's folder without its weights, which go into the volume."""
    folder = write_model_folder(root / "model").parent
    weights = volume / "models" / "small.onnx"
    weights.parent.mkdir()
    shutil.move(folder / "small.onnx", weights)
    model = yaml.safe_load((folder / "small.yaml").read_text())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    changes = {
        "source": {"url": "pvc://weights/models/small.onnx", "sha256": digest},
        # Two versions in one image: one Job builds both.
        "builds": {"fp32": {"engine": "onnxruntime"}, "basic": {"engine": "onnxruntime", "optimise": "basic"}},
        "layout": {"numbers": {1: "fp32", 2: "basic"}},
        "bake": {"sign": {"key": "env://SIGNING_KEY", "public_key": "signing.pub"}},
    }
    (folder / "signing.pub").write_text(public)
    (folder / "small.yaml").write_text(yaml.safe_dump(model | changes))
    return folder
