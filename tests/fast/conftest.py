"""A small platform in a temporary folder, and the command line run on it."""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import numpy as np
import onnx
import pytest
import yaml
from e2e_registry import RegistryServer
from e2e_small_model import write_model_folder
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

PLATFORM = {
    "environment": "local",
    "registry": "localhost:5000/models",
    "pools": [{"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 6}}],
    "services": [
        {
            "name": "tiny",
            "pool": "local",
            "versions": [{"build": "fp32", "weight": 80}, {"build": "basic", "weight": 20}],
            "traffic": {"host": "tiny.example.com", "mirror": {"to": "basic", "percent": 10}},
            "scale": {"min": 1, "max": 3, "queue_time": "10ms"},
        }
    ],
}
MODEL = {
    "name": "tiny",
    "source": {"file": "tiny.onnx"},
    "builds": {"fp32": {"engine": "onnxruntime"}, "basic": {"engine": "onnxruntime", "optimise": "basic"}},
    "verify": {"inputs": "samples", "max_abs_error": 1e-4},
    "slo": {"latency_p95": "50ms", "availability": "99.9%"},
}


class Sandbox:
    """A folder of stack files with one small real model; change ``platform`` and ``model``, then `write`."""

    def __init__(self, root: Path) -> None:
        self.stacks = root / "stacks"
        self.models = self.stacks / "models"
        self.platform: dict[str, Any] = copy.deepcopy(PLATFORM)
        self.model: dict[str, Any] = copy.deepcopy(MODEL)
        (self.models / "samples").mkdir(parents=True)
        for seed in range(8):
            sample = np.random.default_rng(seed).random((1, 4), dtype=np.float32)
            np.savez(self.models / "samples" / f"{seed}.npz", x=sample)
        self.onnx = self.models / "tiny.onnx"
        onnx.save(doubling_model(), str(self.onnx))
        self.write()

    @property
    def stack_file(self) -> Path:
        return self.stacks / "Pulumi.local.yaml"

    @property
    def service(self) -> dict[str, Any]:
        return self.platform["services"][0]

    def become_an_ensemble(self) -> None:
        """Let clients ask the model as `whole`, whose tensors are `raw` and `answer`."""
        steps = [{"model": "tiny", "inputs": {"x": "raw"}, "outputs": {"y": "answer"}}]
        self.model["layout"] = {"ensemble": {"name": "whole", "inputs": ["raw"], "outputs": ["answer"], "steps": steps}}

    def write(self) -> None:
        self.stack_file.write_text(yaml.safe_dump({"config": {"gpuserve:platform": self.platform}}, sort_keys=False))
        (self.models / "tiny.yaml").write_text(yaml.safe_dump(self.model, sort_keys=False))


def doubling_model() -> onnx.ModelProto:
    """Return a model that doubles its input."""
    shape = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, to work in, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    write_model_folder(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run ``gpuserve`` away from any checkout, so that no cluster of this machine is found by chance."""
    from gpuserve.cli.main import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "PULUMI_STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)

    return run


@pytest.fixture
def refusal(cli: Callable[..., Result], sandbox: Sandbox) -> Callable[[], str]:
    """Return what both commands that read a stack say when they refuse it; nothing may reach stdout."""

    def refuse() -> str:
        messages: set[str] = set()
        for command in ("check", "render"):
            result = cli(command, "-s", "local", "--stacks", sandbox.stacks)
            assert result.exit_code == 1, result.output
            assert result.stdout == ""
            assert "Traceback" not in result.output
            messages.add(result.stderr)
        assert len(messages) == 1
        return messages.pop()

    return refuse


@pytest.fixture(autouse=True, scope="session")
def _schemas_are_read_once() -> Iterator[None]:
    """Keep the two megabytes of definitions that the validator else reads for every single manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A real, empty registry, shared by the tests of a file."""
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server
