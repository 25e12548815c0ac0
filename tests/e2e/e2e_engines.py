"""Engines in tests: a build with GPUs of the test's choice, and TensorRT's module by the objects of TensorRT for RTX."""

import types

import tensorrt_rtx

from gpuserve_images.compile.gpus import Gpu, Gpus
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.compile.tensorrt import compile_engine

A100 = Gpu(0, "NVIDIA A100-SXM4-80GB", "GPU-1", "sm_80", 80 << 30, "disabled")
NONE = Gpus(problem="library", reason="no NVIDIA driver is installed here", fix="Install the driver.")


def build(model, out, *, trt=tensorrt_rtx, architecture="sm_80", shapes=None, **options):
    found = options.pop("gpus", NONE)
    return compile_engine(
        trt,
        model,
        out,
        architecture=architecture,
        shapes=shapes or {},
        options=CompileSpec.parse(options.pop("options", {})),
        gpus=lambda: found,
        **options,
    )


def as_tensorrt(**changes):
    """TensorRT as it is on a GPU, by the objects of TensorRT for RTX: no cross-building, and a timing cache."""
    names = {name: getattr(tensorrt_rtx, name) for name in dir(tensorrt_rtx) if name != "ComputeCapability"}
    module = types.ModuleType("tensorrt")
    module.__dict__.update({**names, "__name__": "tensorrt", "__version__": "11.4.0", **changes})
    return module
