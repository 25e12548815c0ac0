"""`builder: job` in a platform: which pool each image is handed, and that its namespace is there first."""

from collections.abc import Iterator
from typing import Any

import pulumi
import pytest


@pytest.fixture
def kubeconfig_of_the_stack() -> Iterator[None]:
    pulumi.runtime.set_config("kubernetes:kubeconfig", "of-the-stack")
    yield
    pulumi.runtime.set_all_config({})


@pytest.mark.usefixtures("kubeconfig_of_the_stack")
@pytest.mark.parametrize("builder", [{}, {"context": "own"}])
def test_jobs_are_handed_the_pool_and_what_the_builder_says(engine: Any, small_platform: Any, builder: dict[str, str]) -> None:
    # Which cluster the stack names, the image's provider is told by the engine.
    engine.run(lambda: small_platform(builder={"kind": "job", **builder}))
    (image,) = [resource for resource in engine.registered if resource.type == "gpuserve:index:ModelImage"]
    assert image.inputs["builder"].get("context") == builder.get("context")
    assert "of-the-stack" not in str(image.inputs)
    assert image.inputs["placement"]["namespace"] == "gpuserve-local"
    namespace = engine.resources["namespace/gpuserve-local"]
    assert engine.registered.index(namespace) < engine.registered.index(image)
