"""The commands on a small platform: what they print, where, and how they exit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gpuserve.cli import check
from gpuserve.cli.output import to_yaml
from gpuserve.cli.schema import model_schema_text, schema_text, stack_schema
from gpuserve.cli.stack import open_stack
from gpuserve_policies import Context

ROOT = Path(__file__).parents[2]
Cli = Callable[..., Any]


def test_render_prints_every_object_once_and_always_the_same(sandbox: Any, cli: Cli) -> None:
    first = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert first.exit_code == 0, first.output
    objects = list(yaml.safe_load_all(first.stdout))
    names = [check.object_name(found) for found in objects]
    assert len(set(names)) == len(names)
    assert {"Namespace gpuserve-local", "Deployment gpuserve-local/tiny-fp32", "HTTPRoute gpuserve-local/tiny"} <= set(names)
    assert "content tags" in first.stderr
    assert "&id" not in first.stdout
    assert cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout == first.stdout


@pytest.mark.parametrize("value", ["12e4", "0o17", "1.5E-3", "0x1F", "17"])
def test_a_word_that_reads_as_a_number_is_quoted(value: str) -> None:
    assert to_yaml([{"commit": value}]) == f"---\ncommit: '{value}'\n"


def test_render_as_json_holds_the_same_objects(sandbox: Any, cli: Cli) -> None:
    as_yaml = list(yaml.safe_load_all(cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout))
    as_json = json.loads(cli("render", "-s", "local", "--stacks", sandbox.stacks, "--format", "json").stdout)
    assert as_json["kind"] == "List"
    assert as_json["items"] == as_yaml


def test_render_into_a_file_leaves_stdout_alone(sandbox: Any, cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out.yaml"
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks, "-o", target)
    assert result.stdout == ""
    assert len(list(yaml.safe_load_all(target.read_text()))) > 5


def test_render_says_that_generated_keys_are_left_out(sandbox: Any, cli: Cli) -> None:
    sandbox.service["traffic"]["tls"] = {"mode": "generated"}
    sandbox.write()
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert "certificate of 'tiny' is left out" in result.stderr
    kinds = {found["kind"] for found in yaml.safe_load_all(result.stdout)}
    assert "Gateway" in kinds
    assert "Secret" not in kinds


def test_check_passes_a_good_stack(sandbox: Any, cli: Cli) -> None:
    result = cli("check", "--all", "--stacks", sandbox.stacks)
    assert result.exit_code == 0, result.output
    assert "local: " in result.stdout
    report = json.loads(cli("check", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)
    assert report["violations"] == []
    assert report["objects"]["local"] > 10


def test_check_finds_what_schema_and_rules_have_against_an_object(sandbox: Any) -> None:
    stack = open_stack("local", sandbox.stacks)
    found = next(item for item in stack.manifests() if item["kind"] == "Deployment")
    assert list(check.check_manifest("local", found, Context(built_images=stack.images))) == []
    container = found["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "nginx:latest"
    container["resources"]["limits"] = {}
    del container["readinessProbe"]
    container["imagePulPolicy"] = "Always"
    findings = list(check.check_manifest("local", found, Context(built_images=stack.images)))
    assert [finding.rule for finding in findings] == ["schema", "gpu-limits", "gpu-limits", "image-digest", "probes"]
    assert "imagePulPolicy" in findings[0].reason
    assert all(finding.object == "Deployment gpuserve-local/tiny-fp32" and finding.fix for finding in findings)


def test_check_prints_a_table_and_fails_on_violations(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuserve_policies.Context", lambda **_: Context())
    result = cli("check", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    for words in ("Deployment gpuserve-local/tiny-fp32", "image-digest", "can be moved", "@sha256:"):
        assert words in " ".join(result.stdout.split())
    report = json.loads(cli("check", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)
    assert {finding["rule"] for finding in report["violations"]} == {"image-digest"}


def test_check_prints_a_single_stacks_error_as_json_too(sandbox: Any, cli: Cli) -> None:
    result = cli("check", "-s", "nope", "--stacks", sandbox.stacks, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["objects"], report["violations"]) == ({}, [])
    assert len(report["errors"]) == 1
    assert "Pulumi.nope.yaml" in report["errors"][0]
    plain = cli("check", "-s", "nope", "--stacks", sandbox.stacks)
    assert (plain.exit_code, plain.stdout) == (1, "")
    assert report["errors"][0] in plain.stderr


@pytest.mark.parametrize("name", ["local", "acme/gpuserve/local"])
def test_the_stack_is_that_of_pulumi_where_none_is_given(name: str, sandbox: Any, cli: Cli) -> None:
    written = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert cli("render", "--stacks", sandbox.stacks, env={"PULUMI_STACK": name}).stdout == written.stdout
    checked = json.loads(cli("check", "--stacks", sandbox.stacks, "--json", env={"PULUMI_STACK": name}).stdout)
    assert list(checked["objects"]) == ["local"]


def test_a_stack_that_is_given_comes_before_that_of_pulumi(sandbox: Any, cli: Cli) -> None:
    elsewhere = {"PULUMI_STACK": "absent"}
    assert cli("render", "-s", "local", "--stacks", sandbox.stacks, env=elsewhere).exit_code == 0
    checked = json.loads(cli("check", "--all", "--stacks", sandbox.stacks, "--json", env=elsewhere).stdout)
    assert list(checked["objects"]) == ["local"]


@pytest.mark.parametrize("command", ["status", "render", "check"])
def test_no_stack_at_all_is_a_wrong_command_line(command: str, cli: Cli) -> None:
    result = cli(command)
    assert result.exit_code == 2
    assert "--stack" in result.output
    assert "PULUMI_STACK" in result.output


@pytest.mark.parametrize("command", ["render", "check"])
@pytest.mark.parametrize("name", ["", " ", "acme/gpuserve/"])
def test_a_stack_without_a_name_is_a_wrong_command_line(name: str, command: str, cli: Cli) -> None:
    result = cli(command, "-s", name, env={"PULUMI_STACK": "local"})
    assert result.exit_code == 2
    assert "names no environment" in result.output


def test_an_empty_name_of_pulumis_stack_is_none(sandbox: Any, cli: Cli) -> None:
    result = cli("render", "--stacks", sandbox.stacks, env={"PULUMI_STACK": ""})
    assert result.exit_code == 2
    assert "Missing option" in result.output
    assert cli("check", "--all", "--stacks", sandbox.stacks, env={"PULUMI_STACK": ""}).exit_code == 0


@pytest.mark.parametrize("arguments", [(), ("-s", "local", "--all"), ("--al",)])
def test_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...], cli: Cli) -> None:
    result = cli("check", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_help_names_one_default_of_the_largest_batch(cli: Any) -> None:
    said = " ".join(cli("compile", "--help").stdout.split())
    assert "Largest batch; default the profile's, else 32." in said
    assert "[default: 0]" not in said


def test_the_committed_schema_is_the_current_one_and_fits_the_stack_files() -> None:
    assert (ROOT / "stacks" / "schema.json").read_text() == schema_text(), "run: gpuserve schema -o stacks/schema.json"
    validator = jsonschema.Draft202012Validator(stack_schema())
    for file in sorted((ROOT / "stacks").glob("Pulumi.*.yaml")):
        assert [error.message for error in validator.iter_errors(yaml.safe_load(file.read_text()))] == [], file.name
    wrong = yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())
    wrong["config"]["gpuserve:platform"]["services"][0]["traffc"] = {}
    assert not validator.is_valid(wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"builder": {"kind": "job", "retries": 11}}, "11 is greater than the maximum of 10"),
        ({"pools": [{"name": "a", "accelerator": "L4", "gpus": 0}]}, "0 is less than the minimum of 1"),
    ],
)
def test_an_editor_is_told_the_bounds_of_numbers(sandbox: Any, change: dict[str, Any], words: str) -> None:
    sandbox.platform |= change
    sandbox.write()
    validator = jsonschema.Draft202012Validator(stack_schema())
    said = [leaf for error in validator.iter_errors(yaml.safe_load(sandbox.stack_file.read_text())) for leaf in leaves(error)]
    assert words in said


def leaves(error: jsonschema.ValidationError) -> list[str]:
    return [error.message, *(said for cause in error.context or () for said in leaves(cause))]


def test_the_committed_schema_of_models_is_the_current_one_and_fits_the_models() -> None:
    committed = ROOT / "stacks" / "models" / "schema.json"
    assert committed.read_text() == model_schema_text(), "run: gpuserve schema --model -o stacks/models/schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(model_schema_text()))
    shown = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "model-images.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    for text in [*(file.read_text() for file in (ROOT / "stacks" / "models").glob("*.yaml")), *shown]:
        data = yaml.safe_load(text)
        if data.keys() & {"kind", "builder"}:  # a pod, a stack file's builder
            continue
        model = {"name": "x", "builds": {"fp32": {"engine": "onnxruntime"}}} | data
        assert [error.message for error in validator.iter_errors(model)] == [], text
    assert not validator.is_valid({"name": "x", "source": {"fil": "x"}, "builds": {}})


def _fields(kind: str) -> dict[str, dict[str, Any]]:
    if kind == "model":
        model = json.loads(model_schema_text())
        definitions = {"ModelSpec": model, **model["$defs"]}
    else:
        platform = stack_schema()["properties"]["config"]["properties"]["gpuserve:platform"]
        definitions = {"PlatformSpec": platform, **stack_schema()["$defs"]}
    return {
        f"{name}.{field}": shown
        for name, definition in definitions.items()
        for field, shown in definition.get("properties", {}).items()
    }


@pytest.mark.parametrize("kind", ["stack", "model"])
def test_the_schema_explains_every_field_and_names_its_default(kind: str) -> None:
    fields = _fields(kind)
    assert [name for name, shown in fields.items() if not shown.get("description")] == []
    chosen = {
        name: shown for name, shown in fields.items() if shown.get("default") and not isinstance(shown["default"], dict | list)
    }
    assert [name for name, shown in chosen.items() if "efault" not in shown["description"]] == []


def test_ctrl_c_exits_quietly_with_130(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpuserve.cli.stack.open_stack", interrupted)
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert (result.exit_code, result.output.strip()) == (130, "")


def test_an_unexpected_failure_is_one_sentence_too(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("gpuserve.cli.stack.open_stack", broken)
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    assert "ZeroDivisionError: by nought" in result.stderr
    assert "Traceback" not in result.output


def test_doctor_names_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    result = cli("doctor", "--json")
    found = {item["subject"]: item for item in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert not found["pulumi"]["ok"]
    assert "KUBECONFIG: is not set" in found["cluster"]["found"]
    assert not found["gpu"]["needed"]


def test_doctor_goes_on_where_the_kubeconfig_is_no_yaml(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a: b: c")
    result = cli("doctor", "--json", env={"KUBECONFIG": str(tmp_path / "config")})
    found = {item["subject"]: item for item in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert not found["cluster"]["ok"]
    assert "is no YAML" in found["cluster"]["found"]


def test_render_for_argo_cd_orders_by_waves_and_changes_nothing_else(cli, sandbox):
    plain = list(yaml.safe_load_all(cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout))
    waves = list(yaml.safe_load_all(cli("render", "-s", "local", "--stacks", sandbox.stacks, "--sync-waves").stdout))
    found: dict[str, set[str]] = {}
    for one in waves:
        notes = one["metadata"]["annotations"]
        wave = notes.pop("argocd.argoproj.io/sync-wave")
        found.setdefault(wave, set()).add(one["kind"])
        if one["kind"] == "Node":
            assert "Prune=false" in notes["argocd.argoproj.io/sync-options"]
        elif wave != "2":
            assert notes.pop("argocd.argoproj.io/sync-options") == "PruneLast=true"
        if not notes:
            del one["metadata"]["annotations"]
    assert waves == plain
    assert {"Namespace", "ResourceQuota"} <= found["0"]
    assert {"Deployment", "Service"} <= found["1"]
    assert {"HTTPRoute", "HorizontalPodAutoscaler"} <= found["2"]
