"""`builder: job` in a platform: which cluster and pool each image is handed."""

from collections.abc import Iterator
from typing import Any

import pulumi
import pytest


@pytest.fixture
def provider_context() -> Iterator[None]:
    pulumi.runtime.set_config("kubernetes:context", "of-the-provider")
    yield
    pulumi.runtime.set_all_config({})


@pytest.mark.usefixtures("provider_context")
@pytest.mark.parametrize(("builder", "context"), [({}, "of-the-provider"), ({"context": "own"}, "own")])
def test_jobs_go_to_the_cluster_that_the_provider_uses_unless_another_is_named(
    engine: Any, small_platform: Any, builder: dict[str, str], context: str
) -> None:
    engine.run(lambda: small_platform(builder={"kind": "job", **builder}))
    (image,) = [resource for resource in engine.registered if resource.type == "gpuserve:index:ModelImage"]
    assert image.inputs["builder"]["context"] == context
    assert image.inputs["placement"]["namespace"] == "gpuserve-local"
    namespace = engine.resources["namespace/gpuserve-local"]
    assert engine.registered.index(namespace) < engine.registered.index(image)
