"""A recorder for component programs under Pulumi's mocks: run first, assert afterwards."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
from e2e_event_loop import leave_nothing_on
from e2e_small_model import write_model_folder
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs, Mocks, set_mocks

from gpuserve.platform.component import Platform

SMALL: dict[str, Any] = {
    "environment": "local",
    "registry": "registry.example.com/models",
    "pools": [{"name": "local", "accelerator": "simulated", "gpus": 2, "quota": {"gpus": 2}}],
    "services": [
        {
            "name": "small",
            "pool": "local",
            "versions": [{"build": "fp32", "weight": 100}],
            "traffic": {"host": "small.example.com"},
        }
    ],
}
IMAGE = "pulumi-python:dynamic/gpuserve:Image"


@dataclass
class Registered:
    """What the engine was asked to register."""

    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    dependencies: list[str]
    aliases: list[str]
    provider: str


@dataclass
class Recorder:
    """Runs a program and keeps its registrations by name, and all of them in their order.

    Attributes:
        failing: Names of resources that the engine is asked for and cannot make, as a Deployment whose pods never become ready.
    """

    failing: set[str] = field(default_factory=set[str])
    resources: dict[str, Registered] = field(default_factory=dict[str, Registered])
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    registered: list[Registered] = field(default_factory=list[Registered])

    def run(self, program: Callable[[], Any], *, preview: bool = False) -> Any:
        """Run ``program`` to its end, with every registration done, and return what it returned."""
        returned: list[Any] = []

        @pulumi.runtime.test
        def wrapped() -> None:
            set_mocks(_Echo(), project="gpuserve", stack="test", preview=preview, monitor=_Monitor(self))
            returned.append(program())

        try:
            wrapped()
        except BaseException:
            leave_nothing_on(asyncio.get_event_loop(), cancel=True)
            raise
        leave_nothing_on(asyncio.get_event_loop())
        return returned[0]

    def types(self) -> dict[str, str]:
        """Return name -> type token."""
        return {name: registered.type for name, registered in self.resources.items()}


class _Echo(Mocks):
    """What is declared is what there is; an image that is built has an address besides."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        built = {"reference": f"{args.name}@sha256:{64 * '0'}"} if args.typ == IMAGE else {}
        return f"{args.name}-id", {**args.inputs, **built}

    def call(self, args: Any) -> dict[Any, Any]:
        return {}


class _Monitor(MockMonitor):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(_Echo())
        self._recorder = recorder

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the method's name in the protocol
        if request.type != "pulumi:pulumi:Stack":
            inputs = pulumi.runtime.rpc.deserialize_properties(request.object)
            registered = Registered(
                request.type,
                request.name,
                inputs,
                request.parent,
                sorted(request.dependencies),
                _aliases(request),
                request.provider or request.providers.get("kubernetes", ""),
            )
            self._recorder.resources[request.name] = registered
            self._recorder.registered.append(registered)
        if request.name in self._recorder.failing:
            raise RuntimeError(f"{request.name} is never ready")
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the method's name in the protocol
        name = request.urn.split("::")[-1]
        self._recorder.outputs[name] = pulumi.runtime.rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)


def _aliases(request: Any) -> list[str]:
    """Return the names under which an older stack may have a resource."""
    return [urn.split("::")[-1] for urn in request.aliasURNs] + [alias.spec.name for alias in request.aliases]


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
def small_platform(tmp_path: Path) -> Callable[..., Platform]:
    """A platform with one pool and one service, whose fields a test may replace, as its name and options; to be called in a program."""
    write_model_folder(tmp_path / "models")

    def declare(name: str = "test", **changes: Any) -> Platform:
        options = {option: changes.pop(option) for option in ("opts", "own_names", "folder") if option in changes}
        return Platform(name, {**SMALL, **changes}, **{"folder": tmp_path, **options})

    return declare
