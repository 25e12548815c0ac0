"""A GPU of this machine, and the TensorRT that compiles for it. `make test-gpu` runs these tests, and no other command does: where the
driver, TensorRT or CUDA's bindings are missing they fail, with what to install."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gpuserve_images.compile.builders import builder_module
from gpuserve_images.compile.cuda import cuda_driver
from gpuserve_images.compile.gpus import Gpu, find_gpus
from gpuserve_images.compile.matching import runs_on
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.compile.running import loaded
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.compile.tensorrt import compile_engine
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.records import StageRecord


@dataclass(frozen=True)
class Here:
    """What this machine has.

    Attributes:
        gpu: The GPU that CUDA gives first.
        trt: TensorRT.
        caches: Where its timing caches are kept.
    """

    gpu: Gpu
    trt: ModuleType
    caches: Path

    @property
    def has_tf32(self) -> bool:
        """Whether its tensor cores take fp32 numbers, by rounding them to TF32: from Ampere on."""
        return runs_on("sm_80", self.gpu.architecture, CompileSpec(hardware_compatibility="ampere-plus"))

    def compile(self, model: Path, out: Path, *, trt: ModuleType | None = None, **options: Any) -> StageRecord:
        """Make an engine of a model, for batches up to 32."""
        return compile_engine(
            trt or self.trt,
            model,
            out,
            architecture=self.gpu.architecture,
            shapes=profiles(read_signature(model), BatchSpec()),
            options=CompileSpec.parse(options),
            caches=self.caches,
        )

    def running(self, engine: Path, model: Path, **options: Any) -> Any:
        """Load an engine of a model onto the GPU."""
        return loaded("tensorrt", engine, self.gpu.architecture, CompileSpec.parse(options), read_signature(model))

    def compare(self, engine: Path, model: Path, **options: Any) -> tuple[float, float]:
        """Return the least cosine, and the largest difference as a share of the largest value, between engine and model, over batches.

        The model answers in ONNX Runtime on the processor.
        """
        session, random = Session(model), np.random.default_rng(0)
        cosines, differences = [], []
        with self.running(engine, model, **options) as runner:
            for size in (1, 8, 32, 3) if session.signature.batched else (1,):
                given = {
                    tensor.name: random.uniform(-1, 1, size=(size, *tensor.shape[1:])).astype(tensor.numpy_dtype)
                    for tensor in session.signature.inputs
                }
                expected = session.run(given)
                for name, answer in runner.run(given).items():
                    one, other = answer.astype(np.float64).ravel(), expected[name].astype(np.float64).ravel()
                    assert np.isfinite(one).all()
                    cosines.append(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
                    differences.append(np.abs(one - other).max() / np.abs(other).max())
        return min(cosines), max(differences)


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Here:
    gpus = find_gpus()
    if not gpus.visible:
        pytest.fail(f"needs a GPU: {gpus.reason}. Fix: {gpus.fix}", pytrace=False)
    cuda_driver()
    return Here(gpus.visible[0], builder_module("tensorrt"), tmp_path_factory.mktemp("caches"))
