"""A stack file and its model files, read together: what is said of which of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuserve.kubernetes.yaml_text import YamlSyntaxError, read_yaml


def _files(sandbox: Any) -> dict[str, Path]:
    return {"stack": sandbox.stack_file, "model": sandbox.models / "tiny.yaml"}


def test_a_model_that_is_called_other_than_its_file_is_refused(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.model["name"] = "small"
    sandbox.write()
    fix = "write `name: tiny`, or call the file small.yaml"
    assert refusal().strip() == f"{sandbox.models / 'tiny.yaml'}: name = 'small': is not the file's name. Fix: {fix}"


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("stack", "config:\n  gpuserve:platform:\n    registry: a/b\n    pools: []\n    registry: c/d\n"),
        ("model", "name: tiny\nbuilds:\n  fp32:\n    engine: a\n    engine: b\n"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(
    which: str, text: str, sandbox: Any, refusal: Callable[[], str]
) -> None:
    file = _files(sandbox)[which]
    file.write_text(text)
    first = {"stack": 3, "model": 4}[which]
    where = f"line 5, column 5: repeats the key of line {first}"
    assert refusal().strip() == f"{file}: (file): is not YAML: {where}. Fix: keep one of the two"


def test_every_key_that_is_given_twice_is_named() -> None:
    with pytest.raises(YamlSyntaxError) as refused:
        read_yaml("x: {a: 1, a: 2}\ny: 1\ny: 2\n")
    assert str(refused.value).split("; ") == [
        "line 3, column 1: repeats the key of line 2",
        "line 1, column 11: repeats the key of line 1",
    ]


@pytest.mark.parametrize("which", ["stack", "model"])
def test_a_file_in_another_encoding_is_refused(which: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    file = _files(sandbox)[which]
    file.write_bytes("# für alle\n".encode("latin-1") + file.read_bytes())
    assert "is not YAML: 'utf-8' codec" in refusal()
    assert "Fix: write it in UTF-8" in refusal()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\n'1': 2\n1: 3\n",
        "base: &b {a: 1, c: 3}\nmid: &m {<<: *b, a: 2}\ntop: {<<: *m, c: 4}\nlist: [*b, *b, *m]\n",
    ],
)
def test_other_yaml_is_read_as_the_library_reads_it(text: str) -> None:
    assert read_yaml(text) == yaml.safe_load(text)


def _two_models(sandbox: Any, pool: str) -> None:
    """Serve `tiny-two` with build `fp32`, and build `tiny` with build `two-fp32` ahead: joined by a dash both read the same."""
    sandbox.model["builds"]["two-fp32"] = {"engine": "onnxruntime"}
    two = {**sandbox.model, "name": "tiny-two", "builds": {"fp32": {"engine": "onnxruntime"}}}
    (sandbox.models / "tiny-two.yaml").write_text(yaml.safe_dump(two))
    sandbox.platform["pools"].append({"name": "a10", "accelerator": "A10", "gpus": 8, "quota": {"gpus": 6}})
    sandbox.service["prebuild"] = ["two-fp32"]
    other = {"name": "other", "model": "tiny-two", "pool": pool, "traffic": {"host": "other.example.com"}}
    sandbox.platform["services"].append({**other, "versions": [{"build": "fp32", "weight": 100}]})
    sandbox.write()


def test_two_images_with_one_name_are_refused(sandbox: Any, refusal: Callable[[], str]) -> None:
    _two_models(sandbox, "local")
    (said,) = refusal().splitlines()
    assert "services[1].versions[0].build = 'fp32'" in said
    assert "gives the name 'tiny-two-fp32-cpu', which is that of services[0].prebuild[0] too" in said


def test_images_for_different_hardware_have_different_names(sandbox: Any, cli: Callable[..., Any]) -> None:
    _two_models(sandbox, "a10")
    assert cli("check", "-s", "local", "--stacks", sandbox.stacks).exit_code == 0


@pytest.mark.parametrize("node", ["*.compute.internal", "*", "GPU-1", "gpu-*"])
def test_a_node_is_named_and_not_matched(node: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.platform["pools"][0]["nodes"] = ["gpu-1.example.com", node]
    sandbox.write()
    said = refusal()
    assert f"pools[0].nodes[1] = {node!r}: is not the name of one node" in said
    assert "`node_selector`" in said


def _three_services(sandbox: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the second and the third of three services; the first has a mistake of its own."""
    second, third = (
        {**sandbox.service, "name": name, "model": "tiny", "traffic": {"host": f"{name}.example.com"}} for name in "bc"
    )
    sandbox.platform["services"] += [second, third]
    sandbox.service.update(versions=[])
    sandbox.platform["gateway_networks"] = ["10.0.0.5/16"]
    return second, third


def test_items_are_counted_as_in_the_file_where_others_before_them_are_wrong(sandbox: Any, refusal: Callable[[], str]) -> None:
    second, third = _three_services(sandbox)
    second["pool"] = "nowhere"
    third.update(name="b", traffic={"host": "b.example.com"})
    sandbox.write()
    said = refusal()
    assert "services[0].versions = []" in said
    assert "services[1].pool = 'nowhere': no such pool" in said
    assert "services[2].name = 'b': is that of services[1].name too" in said
    assert "services[2].traffic.host = 'b.example.com': with path '/' is already taken by service 'b' (services[1])" in said


def test_a_pool_that_is_wrong_is_not_missing_too(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.platform["pools"].insert(0, {"name": "a10", "accelerator": "A11", "gpus": 8, "quota": {"gpus": 6}})
    sandbox.platform["pools"][1]["quota"]["gpus"] = 2
    sandbox.service["pool"] = "local"
    sandbox.platform["services"].append(
        {**sandbox.service, "name": "b", "model": "tiny", "pool": "a10", "traffic": {"host": "b"}}
    )
    sandbox.write()
    said = refusal()
    assert "pools[0].accelerator = 'A11'" in said
    assert "pools[1].quota.gpus = 2" in said
    assert "no such pool" not in said


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("100%", "leaves no error budget, so that every single error would alert. Fix: set for example 99.9%"),
        (0.999, "its alert could never fire. Fix: write more than 83.3%: 99.9%"),
        ("50%", "its alert could never fire. Fix: write more than 83.3%: for example 99.9%"),
    ],
)
def test_an_availability_that_no_alert_can_watch_is_refused_where_it_is_written(
    written: object, words: str, sandbox: Any, refusal: Callable[[], str]
) -> None:
    sandbox.model["slo"]["availability"] = written
    sandbox.write()
    message = refusal().strip()
    assert message.startswith(f"{sandbox.models / 'tiny.yaml'}: slo.availability = '{written}': ")
    assert message.endswith(words)


def test_a_broken_model_hides_nothing_else_of_its_name(sandbox: Any, refusal: Callable[[], str]) -> None:
    (sandbox.models / "gpu.yaml").write_text("name: gpu\n")
    sandbox.service["pool"] = "gpu"
    sandbox.write()
    (said,) = refusal().splitlines()
    assert "services[0].pool = 'gpu': no such pool" in said


def test_a_broken_model_is_named_and_not_missing(sandbox: Any, refusal: Callable[[], str]) -> None:
    (sandbox.models / "gpu.yaml").write_text("name: gpu\n")
    sandbox.service["model"] = "gpu"
    sandbox.write()
    said = refusal()
    assert "gpu.yaml: builds: is required but missing" in said
    assert "no such model" not in said


@pytest.mark.parametrize("written", ["no", "yes", "off", "'true'", "1"])
def test_a_switch_is_true_or_false(written: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.stack_file.write_text(f"{sandbox.stack_file.read_text()}    monitoring: {{alerts: {written}}}\n")
    value = repr(1 if written == "1" else written.strip("'"))
    assert f"monitoring.alerts = {value}: is neither true nor false. Fix: write `true` or `false`" in refusal()


def test_words_and_numbers_are_read_as_the_engine_reads_them() -> None:
    text = "[no, yes, on, off, n, true, False, 1e3, -2E-2, 1.5e3, 7, null, 1e, e3]"
    expected = ["no", "yes", "on", "off", "n", True, False, 1000.0, -0.02, 1500.0, 7, None, "1e", "e3"]
    assert read_yaml(text) == expected
