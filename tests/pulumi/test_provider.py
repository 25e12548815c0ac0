"""The cluster that the program talks to: the one that the stack's configuration names, as without a provider of its own."""

import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import config

ROOT = Path(__file__).parents[2]
PLATFORM = yaml.safe_load((ROOT / "stacks/Pulumi.local.yaml").read_text())["config"]["gpuserve:platform"]
Program = Callable[..., Any]


@pytest.fixture
def provider(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run ``__main__.py`` with a ``kubernetes:`` configuration; return what its provider was asked for."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KUBECONFIG", "/their/config")
    for name in ("await_outputs_together", "log_debug_in_passing"):  # the mocks' program has its own end
        monkeypatch.setattr(f"gpuserve.kubernetes.engine.{name}", lambda: None)

    def run(secrets: list[str] | None = None, /, **values: str) -> dict[str, Any]:
        def program() -> None:
            written = {f"kubernetes:{key}": value for key, value in values.items()}
            pulumi.runtime.set_all_config({"gpuserve:platform": json.dumps(PLATFORM), **written}, secrets or [])
            runpy.run_path(str(ROOT / "__main__.py"))

        known, secret = config.CONFIG.set({}), config._SECRET_KEYS.set(set())
        try:
            engine.run(program)
        finally:
            config.CONFIG.reset(known)
            config._SECRET_KEYS.reset(secret)
        return engine.resources["cluster"].inputs

    return run


def test_the_context_of_the_stack_file_is_asked(provider: Program) -> None:
    asked = provider(context="prod", cluster="eu", namespace="ml")
    assert (asked["context"], asked["cluster"], asked["namespace"]) == ("prod", "eu", "ml")
    assert asked["kubeconfig"] == "/their/config"


def test_without_any_the_environment_decides(provider: Program) -> None:
    asked = provider()
    assert asked["kubeconfig"] == "/their/config"
    assert asked.keys().isdisjoint({"context", "cluster", "namespace"})
    assert json.loads(asked["kubeClientSettings"]) == {"qps": 200, "burst": 400}


def test_a_list_of_kubeconfigs_is_left_to_the_provider(provider: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"/one{os.pathsep}/two")
    assert provider(context="prod")["kubeconfig"] == ""


def test_the_kubeconfig_of_the_stack_file_comes_before_that_of_the_environment(provider: Program) -> None:
    assert provider(kubeconfig="/our/config")["kubeconfig"] == "/our/config"


def test_a_secret_kubeconfig_stays_secret(provider: Program) -> None:
    asked = provider(["kubernetes:kubeconfig"], kubeconfig="apiVersion: v1", context="prod")
    assert asked["context"] == "prod"
    assert pulumi.runtime.rpc.is_rpc_secret(asked["kubeconfig"])
    assert pulumi.runtime.rpc.unwrap_rpc_secret(asked["kubeconfig"]) == "apiVersion: v1"


def test_the_other_settings_of_a_provider_are_passed_on_too(provider: Program) -> None:
    asked = provider(deleteUnreachable="true", clusterIdentifier="a", kubeClientSettings='{"qps": 5, "timeout": 30}')
    assert (json.loads(asked["deleteUnreachable"]), asked["clusterIdentifier"]) == (True, "a")
    assert json.loads(asked["kubeClientSettings"]) == {"qps": 5, "burst": 400, "timeout": 30}


def test_objects_go_to_that_provider(provider: Program, engine: Any) -> None:
    provider(context="prod")
    assert engine.resources["cluster"].type == "pulumi:providers:kubernetes"
    used = {found.provider for found in engine.registered if found.type.startswith("kubernetes:")}
    assert len(used) == 1
    assert "::cluster::" in used.pop()
