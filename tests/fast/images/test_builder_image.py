"""The images that build in a cluster: which one a build gets, and what is pinned in it."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.bases.recipes import RECIPES
from gpuserve_images.bases.serving import DEFAULT_TENSORRT
from gpuserve_images.builder import context
from gpuserve_images.builder.image import ensure_image, require_tools
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.records import silent
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target


def test_the_image_has_the_tools_of_the_lock():
    path = Path(__file__).parents[3] / "stacks" / "models" / "filetype.yaml"
    model = load_model(path)
    for name in model.builds:
        require_tools(context.tools_of(plan(Job(model, name, path.parent, Target()), "")))
    with pytest.raises(SpecError, match=r"lacks scikit-learn, and this machine has 1\.9\.1.*builder: local"):
        require_tools({"scikit-learn": "1.9.1"})
    with pytest.raises(
        SpecError, match=r"has onnxruntime==[\d.]+, and this machine has 1\.0: .*Fix: pip install onnxruntime==[\d.]+,"
    ):
        require_tools({"onnxruntime": "1.0"})


def test_the_image_for_engines_has_the_tensorrt_of_the_default_server_and_what_is_locked():
    require_tools({"tensorrt": DEFAULT_TENSORRT, "onnxruntime": version("onnxruntime")})
    with pytest.raises(SpecError, match=rf"pip install tensorrt-cu13=={DEFAULT_TENSORRT},"):
        require_tools({"tensorrt": "11.4.0.106"})
    pinned = re.findall(r"^(\S+)==(\S+) \\\n +--hash=(\S+)$", (RECIPES / "builder" / "tensorrt.txt").read_text(), re.MULTILINE)
    tensorrt = {name for name, release, _ in pinned if release == DEFAULT_TENSORRT}
    assert tensorrt == {"tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs", "tensorrt-lean-cu13-libs"}
    lock = (RECIPES.parent / "requirements.lock").read_text()
    others = [(name, release, digest) for name, release, digest in pinned if name not in tensorrt]
    assert {name for name, _, _ in others} == {"cuda-bindings", "cuda-pathfinder", "nvidia-ml-py"}
    for name, release, digest in others:
        of_package = re.search(rf"^{name}=={re.escape(release)} (?:\\\n +--hash=\S+ ?)+", lock, re.MULTILINE)
        assert of_package is not None, name
        assert digest in of_package[0]


@pytest.mark.parametrize(
    ("tools", "target"), [(("onnxruntime",), "builder"), (("onnxruntime", "tensorrt"), "builder-tensorrt")]
)
def test_a_build_gets_the_image_with_its_tools(registry, monkeypatch, tools, target):
    asked = []

    def base(recipe, host, _progress, *, target):
        asked.append((recipe, target))
        return bake(f"{host}/gpuserve/{target}:1", [Layer({"/etc/base": File(target.encode())})]).reference

    monkeypatch.setattr("gpuserve_images.builder.image.ensure_base", base)
    image = ensure_image(f"{registry.host}/models", tools, silent)
    assert asked == [("builder", target)]
    assert image.startswith(f"{registry.host}/gpuserve/{target}-code@sha256:")
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (RECIPES / "builder" / "Dockerfile").read_text(), re.MULTILINE)
    assert target in stages
