"""What is started of a builder: with a driver that is too old, and with engines that carry the code that runs them."""

import gc
import weakref
from typing import Any, cast

import pytest
import tensorrt_rtx
from e2e_engines import A100, as_tensorrt, build

from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus
from gpuserve_images.compile.inspection import summarise_engine
from gpuserve_images.compile.parsing import require_accepted
from gpuserve_images.compile.refit import refit
from gpuserve_images.compile.running import EngineRunner
from gpuserve_images.compile.starting import make_logger, make_runtime
from gpuserve_images.onnx_model.signature import read_signature


class TestDriver:
    """TensorRT beside a driver that is too old for its CUDA, as the real one (11.2) was seen to be without any."""

    SAID = "createInferRuntime: Error Code 6: API Usage Error (CUDA initialization failure with error: 35)"
    WORDS = r"engine \(tensorrt\): tensorrt 11\.4\.0 cannot be started here: .*failure with error: 35.*needs 580 or later"

    def test_without_a_builder_it_is_said(self, source, shapes, tmp_path):
        def builder(logger):
            logger.log(tensorrt_rtx.ILogger.Severity.ERROR, self.SAID)
            raise TypeError("pybind11::init(): factory function returned nullptr")

        trt = as_tensorrt(Builder=builder)
        with pytest.raises(CompileError, match=self.WORDS):
            build(source, tmp_path / "e", trt=trt, shapes=shapes, gpus=Gpus((A100,)))
        with pytest.raises(CompileError, match=self.WORDS):
            require_accepted(trt, source)

    def test_a_runtime_that_must_not_be_touched_is_not_nor_is_it_freed(self, source, tmp_path):
        """The real one ends the process then."""
        made: list[weakref.ref[object]] = []
        said = self.SAID

        class Runtime:
            def __init__(self, logger):
                logger.log(tensorrt_rtx.ILogger.Severity.ERROR, said)
                made.append(weakref.ref(self))

            def __setattr__(self, name, value):
                raise AssertionError(f"{name} was set")

        trt = as_tensorrt(Runtime=Runtime)
        (tmp_path / "e").write_bytes(b"engine")
        for touch in (
            lambda: summarise_engine(trt, b"engine"),
            lambda: refit(trt, tmp_path / "e", source, tmp_path / "out"),
            lambda: EngineRunner(trt, tmp_path / "e", read_signature(source), cast("Any", None)),
        ):
            with pytest.raises(CompileError, match=self.WORDS):
                touch()
        gc.collect()
        assert [one() is None for one in made] == [False, False, False]


class TestTrust:
    def test_a_runtime_may_run_the_code_that_an_engine_of_ours_carries(self):
        class Runtime:
            def __init__(self, logger):
                self.engine_host_code_allowed = False

        assert make_runtime(as_tensorrt(Runtime=Runtime), make_logger(rtx_module())).engine_host_code_allowed
        assert make_runtime(rtx_module(), make_logger(rtx_module())).engine_host_code_allowed

    def test_a_version_compatible_engine_is_loaded_by_all_that_load_one(self, source, tmp_path):
        """As TensorRT does, the stand-in refuses an engine with code until that is allowed."""
        allowed: list[bool] = []

        class Runtime:
            engine_host_code_allowed = False

            def __init__(self, logger):
                pass

            def deserialize_cuda_engine(self, data):
                allowed.append(self.engine_host_code_allowed)

        trt = as_tensorrt(Runtime=Runtime)
        (tmp_path / "e").write_bytes(b"engine")
        assert summarise_engine(trt, b"engine") is None
        with pytest.raises(CompileError, match="cannot be loaded"):
            refit(trt, tmp_path / "e", source, tmp_path / "out")
        with pytest.raises(CompileError, match="cannot be loaded"):
            EngineRunner(trt, tmp_path / "e", read_signature(source), cast("Any", None))
        assert allowed == [True, True, True]
