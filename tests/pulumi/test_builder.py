"""`builder: job` in a platform: which cluster and pool each image is handed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from e2e_small_model import write_model_folder

from gpuserve.platform.component import Platform

PLATFORM = {
    "environment": "local",
    "registry": "registry.example.com/models",
    "pools": [{"name": "local", "accelerator": "simulated", "gpus": 1, "quota": {"gpus": 1}}],
    "services": [
        {
            "name": "small",
            "pool": "local",
            "versions": [{"build": "fp32", "weight": 100}],
            "traffic": {"host": "small.example.com"},
        }
    ],
    "monitoring": {"alerts": False, "dashboards": False},
}


@pytest.fixture
def provider_context() -> Iterator[None]:
    pulumi.runtime.set_config("kubernetes:context", "of-the-provider")
    yield
    pulumi.runtime.set_all_config({})


@pytest.mark.usefixtures("provider_context")
@pytest.mark.parametrize(("builder", "context"), [({}, "of-the-provider"), ({"context": "own"}, "own")])
def test_jobs_go_to_the_cluster_that_the_provider_uses_unless_another_is_named(
    engine: Any, tmp_path: Path, builder: dict[str, str], context: str
) -> None:
    write_model_folder(tmp_path / "models")
    engine.run(lambda: Platform("test", {**PLATFORM, "builder": {"kind": "job", **builder}}, folder=tmp_path))
    (image,) = [resource for resource in engine.registered if resource.type == "gpuserve:index:ModelImage"]
    assert image.inputs["builder"]["context"] == context
    assert image.inputs["placement"]["namespace"] == "gpuserve-local"
    namespace = engine.resources["local-namespace"]
    assert engine.registered.index(namespace) < engine.registered.index(image)
