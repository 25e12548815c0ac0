"""A service's engines against its pool's GPUs."""

from pathlib import Path

import pytest

from gpuserve.node_pool.accelerators import ACCELERATORS
from gpuserve.platform.checks import problems
from gpuserve.platform.compose import compose
from gpuserve.platform.engines import engines_fit_the_pool
from gpuserve.platform.load import Environment
from gpuserve.platform.spec import PlatformSpec
from gpuserve_images.compile.spec import RTX_ARCHITECTURES
from gpuserve_images.spec import ModelSpec

MODEL = {
    "name": "tiny",
    "source": {"file": "tiny.onnx"},
    "builds": {
        "fp32": {"engine": "onnxruntime"},
        "rtx": {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]},
        "any": {"engine": "tensorrt", "architectures": ["sm_80"], "compile": {"hardware_compatibility": "ampere-plus"}},
        "alone": {"engine": "onnxruntime", "base": "scratch"},
        "later": {"engine": "tensorrt", "architectures": ["sm_80"], "compile": {"version_compatible": True}},
    },
    "verify": {"inputs": "samples"},
}


def declared(accelerator: str, *builds: str, prebuild: tuple[str, ...] = ()) -> PlatformSpec:
    versions = [{"build": build, "weight": 100 // len(builds)} for build in builds]
    service = {"name": "tiny", "pool": "p", "versions": versions, "prebuild": prebuild, "traffic": {"host": "t.example.com"}}
    pool = {"name": "p", "accelerator": accelerator, "gpus": 4, "quota": {"gpus": 4}}
    return PlatformSpec.parse(
        {
            "environment": "dev",
            "registry": "localhost:5000/models",
            "pools": [pool],
            "services": [{**service, "scale": {"min": 1, "max": 1}}],
            "monitoring": {"namespace": "monitoring"},
        }
    )


def found(accelerator: str, *builds: str, prebuild: tuple[str, ...] = ()) -> list[str]:
    platform = declared(accelerator, *builds, prebuild=prebuild)
    (only,) = platform.services
    return [str(problem) for problem in engines_fit_the_pool("services[0]", only, platform, {"tiny": ModelSpec.parse(MODEL)})]


@pytest.mark.parametrize("accelerator", ["A100-SXM4-80GB", "A30", "L4", "L40S"])
def test_an_engine_for_the_pools_gpu_is_fine(accelerator):
    assert found(accelerator, "rtx") == []


@pytest.mark.parametrize(
    ("accelerator", "architecture"), [("T4", "sm_75"), ("A10", "sm_86"), ("H100-PCIe", "sm_90"), ("B200", "sm_100")]
)
def test_another_gpu_is_refused_with_field_and_fix(accelerator, architecture):
    (problem,) = found(accelerator, "fp32", "rtx")
    known = f"add {architecture} to the build's `architectures`"
    unknown = f"serve a build with `engine: tensorrt` and `architectures: [{architecture}]`: TensorRT for RTX makes none for it"
    assert problem == (
        f"services[0].versions[1].build = 'rtx': makes engines for sm_80, sm_89, and the pool's GPUs are {architecture} "
        f"(pool 'p', accelerator {accelerator}). Fix: {known if architecture in RTX_ARCHITECTURES else unknown}"
    )


def test_hardware_compatible_engines_run_on_what_is_newer():
    assert found("H100-PCIe", "any") == []
    assert "sm_75" in found("T4", "any")[0]


def test_the_server_of_an_engine_that_carries_code_is_told_so_and_no_other():
    environment = Environment(declared("A30", "fp32", "later"), {"tiny": ModelSpec.parse(MODEL)}, Path())
    plan = compose(environment, lambda _request: f"registry.example.com/tiny@sha256:{64 * '0'}")
    assert {serving.version: serving.version_compatible for serving in plan.serving.values()} == {"fp32": False, "later": True}


def test_a_version_whose_image_holds_no_server_is_refused_and_may_be_made_ahead():
    models = {"tiny": ModelSpec.parse(MODEL)}

    def said(*builds: str, prebuild: tuple[str, ...] = ()) -> list[str]:
        found = problems(declared("A30", *builds, prebuild=prebuild), models)
        return [str(problem) for problem in found if "server" in problem.reason]

    assert said("fp32", "any", prebuild=("rtx", "alone")) == []
    rtx, alone = said("rtx", "alone")
    assert rtx.startswith("services[0].versions[0].build = 'rtx': makes engines of TensorRT for RTX")
    assert rtx.endswith("or name this one under `prebuild:` alone")
    assert alone.startswith("services[0].versions[1].build = 'alone': has `base: scratch`")


def test_simulated_gpus_run_no_engine_but_engines_may_be_made_ahead():
    assert "GPUs are simulated" in found("simulated", "rtx")[0]
    assert found("simulated", "fp32", prebuild=("rtx",)) == []
    assert found("H100-PCIe", "fp32", prebuild=("rtx",))[0].startswith("services[0].prebuild[0] = 'rtx'")


def test_every_accelerator_has_the_compute_capability_that_nvidia_publishes():
    """https://developer.nvidia.com/cuda-gpus."""
    published = {
        "sm_75": {"T4"},
        "sm_80": {"A30", "A100-PCIe-40GB", "A100-PCIe-80GB", "A100-SXM4-40GB", "A100-SXM4-80GB"},
        "sm_86": {"A10", "A10G", "A40"},
        "sm_89": {"L4", "L40", "L40S"},
        "sm_90": {"H100-PCIe", "H100-SXM5-80GB", "H100-NVL", "H200"},
        "sm_100": {"B200"},
        "sm_120": {"RTX-PRO-6000"},
        None: {"simulated"},
    }
    known: dict[str | None, set[str]] = {}
    for name, gpu in ACCELERATORS.items():
        known.setdefault(gpu.architecture, set()).add(name)
    assert known == published
