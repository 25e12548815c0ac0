"""The examples of docs/model-images.md are run as they stand."""

import re
import shlex
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from e2e_registry import RegistryServer
from e2e_small_model import write_model_folder
from e2e_text_model import write_text_model
from typer.testing import CliRunner

from gpuserve.cli.main import app
from gpuserve.kubernetes.spec import plain
from gpuserve_images.__main__ import main
from gpuserve_images.bases.recipes import RECIPES, recipe_tag
from gpuserve_images.builder.spec import BuilderSpec
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.spec import ModelSpec

pytestmark = pytest.mark.slow  # whole builds; test_cli_compile and test_model_resource are the quick ones

DOC = (Path(__file__).parents[2] / "docs" / "model-images.md").read_text()
BUILDS = {"fp32": {"engine": "onnxruntime"}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_examples_are_models_builders_or_pods(block):
    data = yaml.safe_load(block)
    if "apiVersion" in data:  # its volume is mounted by test_11e_image_volume
        kubernetes_validate.validate(data, kubernetes_validate.latest_version(), strict=True)
        return
    if set(data) == {"builder"}:  # of a stack file
        builder = BuilderSpec.parse(data["builder"])
        assert BuilderSpec.parse(plain(builder)) == builder
        return
    spec = ModelSpec.parse({"name": "example", "builds": BUILDS} | data)
    # On its way to the provider of Pulumi's engine, and to a Job.
    assert ModelSpec.parse(plain(spec)) == spec
    for name, value in data["source"].items():
        given = getattr(spec.source, name)
        assert (list(given) if isinstance(value, list) else given) == value


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that the document works in, with a registry whose base image is already there."""
    root = tmp_path_factory.mktemp("doc")
    write_model_folder(root / "work")
    work = root / "work"
    (work / "small.onnx").rename(work / "classifier.onnx")
    (work / "small.yaml").unlink()
    write_text_model(work / "text.onnx")
    (work / "classifier.yaml").write_text(blocks("yaml")[0])
    shutil.copytree(Path(__file__).parents[2] / "stacks", work / "stacks")
    key = ec.generate_private_key(ec.SECP256R1())
    (work / "cosign.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (work / "cosign.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (root / "registry").mkdir()
    with RegistryServer(root / "registry") as server:
        base = f"{server.host}/gpuserve/triton-cpu:{recipe_tag(RECIPES / 'triton-cpu')}"
        bake(base, [Layer({"/etc/base": File(b"base")})])
        yield root, server


@pytest.fixture(autouse=True)
def there(request, monkeypatch):
    if "place" in request.fixturenames:
        root, _ = request.getfixturevalue("place")
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
        monkeypatch.chdir(root / "work")


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run_in_the_order_of_the_document(line, place):
    program, *arguments = shlex.split(line.replace("localhost:5000", place[1].host))
    if program == "python":
        assert arguments[:2] == ["-m", "gpuserve_images"]
        assert main(arguments[2:]) == 0
        return
    assert program == "gpuserve"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def test_the_program_runs(place, capsys):
    (program,) = blocks("python")
    exec(program.replace("localhost:5000", place[1].host), {})  # noqa: S102 - the document's own program
    assert "@sha256:" in capsys.readouterr().out
