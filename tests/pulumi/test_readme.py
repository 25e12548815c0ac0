"""The README's examples are executed as they stand; those that need a cluster are in `tests/e2e/test_06b_readme.py`."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from typer.testing import CliRunner

from gpuserve.cli.main import app
from gpuserve.node_pool.spec import NodePoolSpec
from gpuserve.platform.spec import MonitoringSection, ScaleSpec, ServiceSpec, ServiceTrafficSpec
from gpuserve_images.spec import ModelSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_stack_file_is_shown_whole():
    assert (ROOT / "stacks/Pulumi.local.yaml").read_text() == _blocks("yaml")[0]


def test_yaml_examples_are_valid_specs():
    specs = {"services": ServiceSpec, "pools": NodePoolSpec, "traffic": ServiceTrafficSpec}
    specs |= {"scale": ScaleSpec, "monitoring": MonitoringSection}
    seen = set()
    for block in _blocks("yaml")[1:]:
        data = yaml.safe_load(block)
        if "builds" in data:
            ModelSpec.parse(data)
            seen.add("model")
            continue
        ((key, value),) = data.items()
        for item in value if isinstance(value, list) else [value]:
            specs[key].parse(item)
        seen.add(key)
    assert seen == {*specs, "model"}


def test_python_examples_register_every_component(engine, monkeypatch):
    monkeypatch.chdir(ROOT)
    platform = yaml.safe_load(_blocks("yaml")[0])["config"]["gpuserve:platform"]
    monkeypatch.setattr(
        pulumi.Config, "require_object", lambda self, key: platform if f"{self.name}:{key}" == "gpuserve:platform" else {}
    )
    program = "\n".join(_blocks("python"))
    engine.run(lambda: exec(program, {}))  # noqa: S102 - the README's own program
    types = {resource.type.rpartition(":")[2] for resource in engine.registered}
    components = {"GpuNodePool", "ModelImage", "ServingStack", "TrafficPolicy", "GpuAutoscaler", "MonitoringStack", "Platform"}
    assert components <= types
    assert components == set(
        re.findall(r"^\| `(\w+)` \| .* \|", README.partition("## The components")[2].partition("###")[0], re.MULTILINE)
    )
    assert {"Deployment", "HorizontalPodAutoscaler", "Gateway", "ResourceQuota"} <= types
    scaled = {"filetype-fp32", "filetype-int8"}
    assert {name.removesuffix("-hpa") for name in _named(engine, "HorizontalPodAutoscaler")} >= scaled
    for name in scaled:
        server = engine.resources[f"{name}-deployment"]
        assert "replicas" not in server.inputs["spec"]
        assert any(urn.endswith("-quota") for urn in server.dependencies)
    route = engine.resources["filetype-route"]
    assert {urn.rpartition("::")[2] for urn in route.dependencies} >= {f"{name}-deployment" for name in scaled}


def _named(engine: Any, kind: str) -> list[str]:
    return [resource.name for resource in engine.registered if resource.type.endswith(f":{kind}")]


def test_the_error_that_is_shown_is_what_is_said(monkeypatch, tmp_path):
    (shown,) = re.findall(r"^    (stacks/Pulumi\.local\.yaml: .*)$", README, flags=re.MULTILINE)
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks")
    file = tmp_path / "stacks/Pulumi.local.yaml"
    file.write_text(file.read_text().replace("quota: {gpus: 6}", "quota: {gpus: 6, memory: 16Gb}"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["check", "-s", "local"])
    assert result.exit_code == 1
    said = re.sub(r"\s+", " ", result.output)
    assert re.search(".*".join(re.escape(part) for part in shown.split("...")), said), said


def test_the_fields_to_replace_are_those_of_the_stack_file():
    stack = yaml.safe_load((ROOT / "stacks/Pulumi.dev.yaml").read_text())["config"]["gpuserve:platform"]
    rows = re.findall(r"^\| (`.*?) \|", README.partition("## Your own cluster")[2].partition("\n## ")[0], flags=re.MULTILINE)
    fields = [field for row in rows for field in re.findall(r"`([^`]+)`", row)]
    assert {"registry", "services[].traffic.host"} <= set(fields)
    for field in fields:
        found: Any = stack
        for name in field.split("."):
            found = found[name.removesuffix("[]")]
            found = found[0] if name.endswith("[]") else found


def test_the_names_of_commands_are_true():
    """Those that take long, or change things: they are run by other tests, and only called by the right name here."""
    made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, flags=re.MULTILINE)) <= set(made)
    command = [sys.executable, "-m", "benchmarks", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = re.sub(r"\s+", "", said.partition("which (")[2].partition(")")[0]).split(",")
    named = {name for line in re.findall(r"python -m benchmarks ([a-z ]+)`", README) for name in line.split()}
    assert named
    assert named <= set(known)
    assert all((ROOT / "benchmarks" / f"{name}.py").exists() for name in known)


@pytest.mark.parametrize("line", re.findall(r"^    gpuserve ((?:render|check)[^#\n]*)", README, flags=re.MULTILINE))
def test_commands_without_a_cluster_run(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == 0, result.output


def test_the_adapter_rule_is_printed(monkeypatch, capsys):
    (code,) = re.findall(r"python -c '(import yaml; .*)'", README)
    exec(code, {})  # noqa: S102 - the README's own program
    (rule,) = yaml.safe_load(capsys.readouterr().out)
    assert "gpuserve:" in rule["seriesQuery"]
