"""Input that only the engine or the registry can find wrong: said in words, and nothing is changed."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from e2e_cluster import ROOT, Cluster, run
from e2e_stack import Stack, Workshop, command

pytestmark = pytest.mark.e2e

REGISTRY = "http://localhost:5000/v2"
NOBODY = "65534"


def _assert_clear(done: Any, *words: str) -> None:
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    for word in (*words, "fix:"):
        assert word.lower() in said.lower(), said
    assert "Traceback" not in said, said


def _assert_untouched(cluster: Cluster, name: str) -> None:
    namespaces = {found["metadata"]["name"] for found in cluster.get("namespaces")}
    assert f"gpuserve-{name}" not in namespaces


def test_a_registry_that_is_down_stops_up_before_anything_is_made(stack: Stack, workshop: Workshop):
    workshop.write_stack("no-registry", registry="localhost:5999/models")
    _assert_clear(command("up", "--stack", "no-registry", cwd=workshop.folder), "localhost:5999")
    _assert_untouched(stack.cluster, "no-registry")


def test_a_registry_that_is_down_stops_pulumi_too(stack: Stack, workshop: Workshop):
    workshop.write_stack("no-registry", registry="localhost:5999/models")
    assert workshop.pulumi("stack", "select", "--create", "no-registry").returncode == 0
    _assert_clear(workshop.pulumi("up", "-s", "no-registry", "--yes", "--skip-preview"), "localhost:5999")
    _assert_untouched(stack.cluster, "no-registry")


def test_a_build_below_its_bar_is_not_pushed(stack: Stack, workshop: Workshop):
    models = workshop.folder / "stacks" / "models"
    model = yaml.safe_load((models / "filetype.yaml").read_text())
    samples = [{"package": "numpy", "glob": "**/*.c", "limit": 12}, {"package": "onnx", "glob": "**/*.h", "limit": 12}]
    build = {**model["builds"]["int8"], "calibrate": {"inputs": samples}, "verify": {"max_abs_error": 1e-9}}
    strict = {**model, "name": "strict", "builds": {"int8": build}, "verify": {"inputs": samples}}
    (models / "strict.yaml").write_text(yaml.safe_dump(strict))
    workshop.write_stack("strict", service={"model": "strict", "versions": [{"build": "int8", "weight": 100}]})
    assert workshop.pulumi("stack", "select", "--create", "strict").returncode == 0
    _assert_clear(workshop.pulumi("up", "-s", "strict", "--yes", "--skip-preview"), "max_abs_error", "1e-09")
    pushed = requests.get(f"{REGISTRY}/models/strict/tags/list", timeout=10)
    assert pushed.status_code == 404 or not pushed.json()["tags"]
    _assert_untouched(stack.cluster, "strict")


def test_every_error_of_a_stack_comes_at_once_and_nothing_is_made(stack: Stack, workshop: Workshop):
    workshop.write_stack("wrong", service={"pool": "nowhere", "scale": {"min": 1, "max": 2}, "tyop": 1})
    done = command("up", "--stack", "wrong", cwd=workshop.folder)
    _assert_clear(done, "Pulumi.wrong.yaml", "tyop", "unknown field")
    _assert_untouched(stack.cluster, "wrong")


@pytest.mark.usefixtures("stack")
def test_without_root_and_kubeconfig_up_says_so_at_once(tmp_path: Path, workshop: Workshop):
    # Another user, who may yet read this checkout wherever it lies: what is tested is not the checkout's permissions.
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reads = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    variables = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    variables.pop("KUBECONFIG", None)
    done = run([*user, *reads, sys.executable, "-m", "gpuserve_embedded", "up"], variables, cwd=workshop.folder, timeout=60)
    _assert_clear(done, "root", "KUBECONFIG")
    assert not (tmp_path / "cache" / "gpuserve" / "tools").exists()


def test_a_kubeconfig_that_leads_nowhere_is_named(tmp_path: Path, workshop: Workshop):
    file = tmp_path / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "gone", "cluster": {"server": "http://127.0.0.1:5998"}}],
                "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "gone"}}],
                "users": [{"name": "gone", "user": {}}],
                "current-context": "gone",
            }
        )
    )
    done = run([ROOT / ".venv/bin/gpuserve", "status", "-s", "local"], {"KUBECONFIG": str(file)}, cwd=workshop.folder)
    _assert_clear(done, "127.0.0.1:5998")
