"""What a program passes to `ModelImage` by mistake is refused by its name, while nothing is asked or made."""

import asyncio
from typing import Any

import pulumi
import pytest
from e2e_event_loop import leave_nothing_on
from e2e_small_model import write_model_folder
from pulumi.runtime.settings import set_root_resource

from gpuserve_images.resource import ModelImage
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target


class Mocks(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return args.name, dict(args.inputs)

    def call(self, _args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


@pytest.fixture
def declare(tmp_path):
    asyncio.set_event_loop(asyncio.new_event_loop())
    set_root_resource(None)
    pulumi.runtime.set_mocks(Mocks(), project="p", stack="s")
    path = write_model_folder(tmp_path / "model")

    def image(**changes: Any) -> ModelImage:
        arguments = {"build": "fp32", "folder": path.parent, "registry": "localhost:1/models", "base": "scratch", **changes}
        return ModelImage("small", load_model(path), **arguments)

    yield image
    set_root_resource(None)
    leave_nothing_on(asyncio.get_event_loop(), cancel=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"registry": "https://localhost:1/models"}, r"^registry = 'https://.*Fix: write 'localhost:1/models'$"),
        ({"registry": None}, r"^registry: is no registry"),
        ({"builder": {"kind": "jobs"}}, r"^builder\.kind = 'jobs': .* use 'local' or 'job'$"),
        ({"builder": "jobs"}, r"^builder\.kind = 'jobs'"),
        ({"builder": "job"}, r"^placement: is required by builder `job`"),
        ({"target": "gpu"}, r"^target = 'gpu': is no `gpuserve_images\.target\.Target`\. Fix: pass for example Target\("),
        ({"target": Target(kind="GPU")}, r"^target\.kind = 'GPU': .* use 'cpu' or 'gpu'$"),
        ({"target": Target("gpu", "sm86")}, r"^target\.architecture = 'sm86': is not a GPU architecture.*'sm_80'$"),
        ({"target": Target("gpu", "8.6")}, r"^target\.architecture = '8\.6'"),
        (
            {"base": "triton-cpuu"},
            r"^base \(triton-cpuu\): is the name of no recipe.*Write one of scratch, triton-cpu, or an image's",
        ),
        ({"base": "localhost:1/Bases/x:1"}, r"^image reference \('localhost:1/Bases/x:1'\): it is not of the form"),
        ({"builder": {"pool": "a"}}, r"^builder: names pool, which only Jobs have"),
    ],
)
def test_a_wrong_argument_is_named(declare, changes, words):
    with pytest.raises(pulumi.RunError, match=words):
        declare(**changes)


def test_a_registry_that_is_not_known_yet_is_refused(declare):
    later = pulumi.Output.from_input("localhost:1/models")
    with pytest.raises(
        pulumi.RunError, match=r"registry: is a Pulumi Output, but must be known at plan time.*pass a plain value"
    ):
        declare(registry=later)


def test_a_folder_may_be_text(declare, tmp_path):
    as_path, as_text = declare(), declare(folder=str(tmp_path / "model"))
    assert as_path.key == as_text.key
    assert load_model(str(tmp_path / "model/small.yaml")) == load_model(tmp_path / "model/small.yaml")


def test_a_builder_alone_is_one_without_options(declare):
    assert declare(builder="local").tag.startswith("localhost:1/models/small:")
