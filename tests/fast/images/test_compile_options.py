"""Options arrive at the builder: read back from its own configuration, of a build that goes on to its end."""

import types
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import tensorrt_rtx
from e2e_engines import A100, as_tensorrt, build

from gpuserve_images.compile import lean
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus
from gpuserve_images.compile.options import apply
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.compile.starting import make_logger
from gpuserve_images.compile.tensorrt import require_buildable

JIT, EDGE = (1 << int(getattr(tensorrt_rtx.TacticSource, name)) for name in ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS"))
DEFAULTS = {
    "workspace": 2**30,
    "optimisation_level": 3,
    "tactic_sources": JIT | EDGE,
    "refit": False,
    "tf32": True,
    "version_compatible": False,
    "hardware_compatibility": tensorrt_rtx.HardwareCompatibilityLevel.NONE,
}
"""What a build that says nothing gives the builder: gpuserve's own workspace, and TensorRT's own for all else."""


class Configuration:
    """TensorRT's configuration by that of TensorRT for RTX, and by notes of what that has in name only."""

    def __init__(self, real: Any) -> None:
        vars(self).update(real=real, level=DEFAULTS["hardware_compatibility"], lean=False)

    def __getattr__(self, name: str) -> Any:
        return self.level if name == "hardware_compatibility_level" else getattr(self.real, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "hardware_compatibility_level":
            vars(self)["level"] = value
        else:
            setattr(self.real, name, value)

    def set_flag(self, flag: Any) -> None:
        if flag == tensorrt_rtx.BuilderFlag.VERSION_COMPATIBLE:
            vars(self)["lean"] = True
        else:
            self.real.set_flag(flag)

    def get_flag(self, flag: Any) -> bool:
        return self.lean if flag == tensorrt_rtx.BuilderFlag.VERSION_COMPATIBLE else self.real.get_flag(flag)


def read(config: Any) -> dict[str, Any]:
    flags, pools = tensorrt_rtx.BuilderFlag, tensorrt_rtx.MemoryPoolType
    return {
        "workspace": config.get_memory_pool_limit(pools.WORKSPACE),
        "optimisation_level": config.builder_optimization_level,
        "tactic_sources": config.get_tactic_sources(),
        "refit": config.get_flag(flags.REFIT),
        "tf32": config.get_flag(flags.TF32),
        "version_compatible": config.get_flag(flags.VERSION_COMPATIBLE),
        "hardware_compatibility": config.hardware_compatibility_level,
    }


def applied(trt: ModuleType, options: Mapping[str, object]) -> dict[str, Any]:
    logger = make_logger(trt)
    config = Configuration(tensorrt_rtx.Builder(logger).create_builder_config())
    apply(trt, config, CompileSpec.parse(options), logger)
    return read(config)


TAKEN = [
    ({}, {}),
    ({"workspace": "64Mi"}, {"workspace": 64 * 2**20}),
    ({"optimisation_level": 0}, {"optimisation_level": 0}),
    ({"optimisation_level": 5}, {"optimisation_level": 5}),
    ({"tactic_sources": ["jit-convolutions"]}, {"tactic_sources": JIT}),
    ({"tactic_sources": ["edge-mask-convolutions"]}, {"tactic_sources": EDGE}),
    ({"tactic_sources": ["jit-convolutions", "edge-mask-convolutions"]}, {}),
    ({"tactic_sources": []}, {"tactic_sources": 0}),
    ({"refit": True}, {"refit": True}),
    ({"tf32": True}, {}),
    ({"tf32": False}, {"tf32": False}),
    (
        {"workspace": "2Gi", "optimisation_level": 1, "refit": True},
        {"workspace": 2**31, "optimisation_level": 1, "refit": True},
    ),
]


@pytest.mark.parametrize(("options", "changed"), TAKEN)
def test_options_are_in_the_builders_own_configuration(options, changed):
    assert applied(tensorrt_rtx, options) == DEFAULTS | changed


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        *TAKEN,
        ({"version_compatible": True}, {"version_compatible": True}),
        ({"version_compatible": False}, {}),
        (
            {"hardware_compatibility": "ampere-plus"},
            {"hardware_compatibility": tensorrt_rtx.HardwareCompatibilityLevel.AMPERE_PLUS},
        ),
        (
            {"hardware_compatibility": "same-compute-capability"},
            {"hardware_compatibility": tensorrt_rtx.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY},
        ),
        ({"hardware_compatibility": "none"}, {}),
    ],
)
def test_tensorrt_gets_also_what_rtx_lacks(options, changed):
    assert applied(as_tensorrt(), options) == DEFAULTS | changed


# A subclass in Python makes the binding warn of its own `__del__`.
borrowed = pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning")


@pytest.fixture
def builder():
    """A builder that builds for real, and what its configuration held then."""
    seen: list[dict[str, Any]] = []

    class Builder(tensorrt_rtx.Builder):
        def create_builder_config(self) -> Configuration:
            return Configuration(super().create_builder_config())

        def build_serialized_network(self, network: Any, config: Configuration) -> Any:
            seen.append(read(config))
            return super().build_serialized_network(network, config.real)

    return Builder, seen


@borrowed
def test_a_real_build_has_its_options(source, shapes, tmp_path, builder):
    module, seen = ModuleType("tensorrt_rtx"), builder[1]
    module.__dict__.update(vars(tensorrt_rtx) | {"Builder": builder[0]})
    options = {"workspace": "64Mi", "optimisation_level": 1, "tactic_sources": ["jit-convolutions"]}
    record = build(source, tmp_path / "e", trt=module, shapes=shapes, options=options)
    assert seen == [DEFAULTS | {"workspace": 64 * 2**20, "optimisation_level": 1, "tactic_sources": JIT}]
    assert (tmp_path / "e").stat().st_size > 1000
    assert {name: record.options[name] for name in options} == options


@borrowed
def test_a_build_of_tensorrt_for_other_versions_and_gpus_comes_to_its_end(source, shapes, tmp_path, builder, monkeypatch):
    monkeypatch.setattr(lean, "ctypes", types.SimpleNamespace(CDLL=str))
    options = {"version_compatible": True, "hardware_compatibility": "ampere-plus", "timing_cache": False}
    trt, here = as_tensorrt(Builder=builder[0]), Gpus((A100,))
    record = build(source, tmp_path / "e", trt=trt, shapes=shapes, gpus=here, options=options)
    level = tensorrt_rtx.HardwareCompatibilityLevel.AMPERE_PLUS
    assert builder[1] == [DEFAULTS | {"version_compatible": True, "hardware_compatibility": level}]
    assert (tmp_path / "e").stat().st_size > 1000
    assert {name: record.options[name] for name in options} == options


@pytest.fixture
def libraries(monkeypatch):
    """The libraries that can be loaded here; importing NVIDIA's wheel, where there is one, adds the lean runtime to them."""
    present: list[str] = []

    def load(name: str) -> None:
        if name not in present:
            raise OSError(f"{name}: cannot open shared object file")

    def wheel(name: str) -> None:
        assert name == "tensorrt_lean_libs"
        if "wheel" not in present:
            raise ImportError(name)
        present.append("libnvinfer_lean.so.11")

    monkeypatch.setattr(lean, "ctypes", types.SimpleNamespace(CDLL=load))
    monkeypatch.setattr(lean, "importlib", types.SimpleNamespace(import_module=wheel))
    return present


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (["libnvinfer_lean.so.11"], ""),
        (["wheel"], ""),
        (["libnvinfer_lean.so.10"], r"libnvinfer_lean\.so\.11: cannot open.*pip install 'tensorrt-lean-cu13-libs==11\.4\.0'"),
    ],
)
def test_the_code_that_an_engine_shall_carry_is_looked_for_before_it_is_built(libraries, present, words):
    """A wheel of NVIDIA's own, which TensorRT's does not bring."""
    libraries += present
    asked = CompileSpec(version_compatible=True), lambda: Gpus((A100,))
    if words:
        with pytest.raises(
            CompileError, match=rf"compile\.version_compatible \(True\): needs TensorRT's lean runtime.*{words}"
        ):
            require_buildable(as_tensorrt(), "sm_80", *asked)
        assert require_buildable(as_tensorrt(), "sm_80", CompileSpec(), asked[1]) == A100.name
    else:
        assert require_buildable(as_tensorrt(), "sm_80", *asked) == A100.name


def test_tactics_that_the_builder_does_not_take_are_refused():
    class Refusing(Configuration):
        def set_tactic_sources(self, _sources: int) -> bool:
            return False

    trt = as_tensorrt()
    logger = make_logger(trt)
    config = Refusing(tensorrt_rtx.Builder(logger).create_builder_config())
    with pytest.raises(CompileError, match=r"compile.tactic_sources .* does not offer it: refuses \['jit-convolutions'\]"):
        apply(trt, config, CompileSpec.parse({"tactic_sources": ["jit-convolutions"]}), logger)
