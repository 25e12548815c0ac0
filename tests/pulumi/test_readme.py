"""The README's examples are executed as they stand."""

import re
import shlex
from pathlib import Path

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
    program = "\n".join(_blocks("python"))
    engine.run(lambda: exec(program, {}))  # noqa: S102 - the README's own program
    types = {resource.type.rpartition(":")[2] for resource in engine.registered}
    components = {"GpuNodePool", "ModelImage", "ServingStack", "TrafficPolicy", "GpuAutoscaler", "MonitoringStack"}
    assert components <= types
    assert {"Deployment", "HorizontalPodAutoscaler", "Gateway", "ResourceQuota"} <= types


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
