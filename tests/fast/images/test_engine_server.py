"""TensorRT in the server's image and TensorRT that makes the engine: versions that do not go together are refused before the work."""

import sys
import tomllib
from pathlib import Path

import pytest
from e2e_engines import as_tensorrt
from e2e_gpu import Driver, runtime
from e2e_nvml import Device, nvml
from e2e_small_model import FEATURES, write_model_folder

from gpuserve_images.bases.serving import DEFAULT_TENSORRT, default_base, tensorrt_of
from gpuserve_images.compile.builders import CUDAS, OLDEST
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.matching import loads
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import ImageConfig, bake, environment, resolve
from gpuserve_images.pipeline.build import build
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

ROOT = Path(__file__).parents[3]
COMPATIBLE = CompileSpec(version_compatible=True)
ANY = CompileSpec()


@pytest.mark.parametrize(
    ("server", "builder", "options", "fits"),
    [
        ("11.1.0.106", "11.1.0.106", ANY, True),
        ("11.1.0.106+cuda13.3", "11.1.0.114", ANY, True),
        ("11.1.0.106", "11.4.0.106", ANY, False),
        ("11.4.0.106", "11.1.0.106", ANY, False),
        ("11.1.1.2", "11.1.0.106", ANY, False),
        ("11.4.0.106", "11.1.0.106", COMPATIBLE, True),
        ("12.0.0.1", "11.4.0.106", COMPATIBLE, True),
        ("11.1.0.106", "11.4.0.106", COMPATIBLE, False),
    ],
)
def test_which_server_loads_which_engine(server, builder, options, fits):
    assert loads(server, builder, options) is fits


def test_the_extra_and_the_documents_name_the_tensorrt_of_the_default_server():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    major, minor = map(int, DEFAULT_TENSORRT.split(".")[:2])
    assert major >= OLDEST
    assert [name.partition(">=")[::2] for name in extras["tensorrt"]] == [
        (f"tensorrt-cu{CUDAS[0]}", f"{major}.{minor},<{major}.{minor + 1}"),
        (f"tensorrt-lean-cu{CUDAS[0]}-libs", f"{major}.{minor},<{major}.{minor + 1}"),
    ]
    assert f"pip install --no-deps tensorrt-cu{CUDAS[0]}=={DEFAULT_TENSORRT}`" in (ROOT / "docs/model-images.md").read_text()


@pytest.fixture
def base(registry, request):
    """Push a base image with these environment variables."""
    place = f"{registry.host}/bases/b{abs(hash(request.node.name)) % 10**8}"

    def push(**variables):
        return bake(f"{place}:1", [], config=ImageConfig(env=variables), platform=["linux/amd64", "linux/arm64"]).reference

    return push


def test_the_environment_of_an_image_is_that_of_its_first_platform(base):
    reference = base(TRT_VERSION="11.1.0.106", EMPTY="", WITH="a=b")
    assert environment(reference) == {"TRT_VERSION": "11.1.0.106", "EMPTY": "", "WITH": "a=b"}
    assert environment(reference, ["linux/arm64"])["TRT_VERSION"] == "11.1.0.106"
    with pytest.raises(RegistryError, match="is not built for windows/amd64"):
        environment(reference, ["windows/amd64"])


def test_what_a_base_says_of_its_tensorrt(base):
    assert tensorrt_of(base(TRT_VERSION="11.1.0.106")) == "11.1.0.106"
    assert [tensorrt_of(other) for other in (base(), "scratch", default_base(Target("cpu")))] == ["", "", ""]


@pytest.fixture
def make(base, registry, tmp_path, monkeypatch, named_tensorrt):
    """Build an engine on a machine with an A100 and this version of TensorRT, onto a base with that one."""

    def run(builder, server):
        folder = tmp_path / "model"
        image = base(**({"TRT_VERSION": server} if server else {}))
        spec = {"engine": "tensorrt", "architectures": ["sm_80"], "base": image}
        model = load_model(write_model_folder(folder, builds={"engine": spec}))
        driver = Driver("sm_80")
        profiles = {"x": ((1, FEATURES), (16, FEATURES))}
        monkeypatch.setitem(sys.modules, "pynvml", nvml(Device()))
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
        played = runtime(driver, folder / "small.onnx", profiles=profiles)
        monkeypatch.setitem(sys.modules, "tensorrt", as_tensorrt(Runtime=played))
        named_tensorrt(builder)
        place = f"{registry.host}/made/{tmp_path.name.lower()}"
        return build(model, "engine", folder=folder, registry=place, cache=tmp_path / "cache", target=Target("gpu"))

    run.stages = tmp_path / "cache/stages"
    return run


def test_another_version_than_the_servers_is_refused_before_anything_is_made(make):
    words = (
        r"engine \(tensorrt\): of version 11\.4\.0\.106 makes engines that the server would not load: .* has TensorRT 11\.1\.0\.106"
        r".*pip install 'tensorrt-cu13==11\.1\.0\.106'\), or give the build a `base:` with TensorRT 11\.4\.0\.106"
    )
    with pytest.raises(CompileError, match=words):
        make("11.4.0.106", "11.1.0.106+cuda13.3")
    assert not make.stages.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the borrowed builder's timing cache
@pytest.mark.parametrize("server", ["11.1.0.106", ""])
def test_the_servers_version_and_a_base_that_does_not_say_are_built_for(make, server):
    assert resolve(make("11.1.0.106", server).reference) is not None
