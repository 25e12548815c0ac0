"""`ModelImage` under the real engine, against a real registry: what preview says, what up does, what refresh finds."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_registry import RegistryServer
from e2e_small_model import write_model_folder

from gpuserve_embedded.tools import prepare_pulumi
from gpuserve_images.oci import File, Layer, bake

pytestmark = pytest.mark.e2e

PROGRAM = """
import os
from pathlib import Path
import pulumi
from gpuserve_images.resource import ModelImage
from gpuserve_images.spec import load_model

folder = Path(os.environ["MODEL_FOLDER"])
for build in ("fp32", "int8"):
    image = ModelImage(
        build,
        load_model(folder / "small.yaml"),
        build=build,
        folder=folder,
        registry=os.environ["REGISTRY"],
        base=os.environ["BASE"],
    )
    pulumi.export(build, image.reference)
"""


class Project:
    """A Pulumi project with two builds of one small model, and a registry that allows deleting."""

    def __init__(self, root: Path, host: str) -> None:
        self.folder = root / "project"
        self.model = write_model_folder(root / "model").parent
        self.host = host
        self.folder.mkdir()
        (self.folder / "Pulumi.yaml").write_text(
            f"name: images\nruntime: {{name: python, options: {{virtualenv: {Path(sys.prefix)}}}}}\n"
        )
        (self.folder / "__main__.py").write_text(PROGRAM)
        tools = prepare_pulumi(root / "bin", Path(sys.executable), print)
        self.variables = os.environ | {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "PULUMI_BACKEND_URL": f"file://{root / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "XDG_CACHE_HOME": str(root / "cache"),
            "MODEL_FOLDER": str(self.model),
            "REGISTRY": f"{host}/models",
            "BASE": bake(f"{host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference,
        }
        self.pulumi_program = str(tools.pulumi)
        (root / "state").mkdir()
        self.pulumi("stack", "init", "test")

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        """Run Pulumi and return all it said."""
        done = subprocess.run(
            [self.pulumi_program, "--non-interactive", "--color", "never", *arguments],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, said
        return said

    def changes(self) -> dict[str, int]:
        """Return what a preview would do, by kind of step."""
        return json.loads(self.pulumi("preview", "--json"))["changeSummary"]

    def reference(self, build: str) -> str:
        return self.pulumi("stack", "output", build).strip()

    def edit(self, old: str, new: str) -> None:
        path = self.model / "small.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def remove_from_registry(self, reference: str) -> None:
        host, rest = reference.split("/", 1)
        repository, digest = rest.split("@")
        address = f"http://{host}/v2/{repository}/manifests/{digest}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    # A registry that forgets an image is what a refresh has to notice.
    monkeypatch.setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
    (tmp_path / "registry").mkdir()
    with RegistryServer(tmp_path / "registry") as server:
        yield Project(tmp_path, server.host)


def test_from_first_up_to_refresh(project: Project):
    assert project.changes() == {"create": 5}
    project.pulumi("up", "--yes", "--skip-preview")
    first = {build: project.reference(build) for build in ("fp32", "int8")}
    assert project.changes() == {"same": 5}

    project.edit("max: 16", "max: 8")
    assert project.changes() == {"same": 1, "update": 4}
    project.pulumi("up", "--yes", "--skip-preview")
    second = {build: project.reference(build) for build in ("fp32", "int8")}
    assert not set(first.values()) & set(second.values())

    project.remove_from_registry(second["fp32"])
    project.pulumi("refresh", "--yes")
    assert project.changes() == {"create": 1, "same": 4}
    project.pulumi("up", "--yes", "--skip-preview")
    assert project.reference("fp32") == second["fp32"]

    project.pulumi("destroy", "--yes")
    again = project.pulumi("up", "--yes", "--skip-preview")
    assert "5 created" in again
    assert project.reference("int8") == second["int8"]


def test_errors_are_sentences_and_come_before_changes(project: Project):
    project.edit("top1_agreement: 0.9", "max_abs_error: 1.0e-09")
    said = project.pulumi("up", "--yes", "--skip-preview", fails=True)
    assert "dynamic INT8: max_abs_error is" in said
    assert "nothing was pushed" in said
    project.edit("max_abs_error: 1.0e-09", "top1_agreement: 0.9")

    project.variables["REGISTRY"] = "localhost:1/models"
    down = project.pulumi("preview", fails=True)
    assert "property registry" in down
    assert "is down or not reachable" in down

    whole = project.model / "small.onnx"
    whole.write_bytes(whole.read_bytes()[:500])
    truncated = project.pulumi("preview", fails=True)
    assert "is a truncated ONNX file of 500 bytes" in truncated
    for text in (said, down, truncated):
        assert "Traceback" not in text
