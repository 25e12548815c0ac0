"""Engines of TensorRT: built with every option, asked, timed by a cache that is used, refitted, and refused where they do not fit."""

import importlib.util
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, written
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper

from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.refit import refit
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.graph import optimise


@pytest.fixture
def small(tmp_path):
    onnx.save(classifier(), tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.fixture(scope="session")
def resnet(tmp_path_factory):
    """ResNet-50's graph, whose convolutions are what a builder times."""
    found = importlib.util.find_spec("onnx")
    assert found is not None
    assert found.origin is not None
    out = tmp_path_factory.mktemp("resnet") / "resnet.onnx"
    optimise(Path(found.origin).parent / "backend/test/data/light/light_resnet50.onnx", out, "basic")
    return out


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"workspace": "64Mi"},
        {"optimisation_level": 0},
        {"optimisation_level": 5},
        {"tactic_sources": []},
        {"tactic_sources": ["jit-convolutions"]},
        {"hardware_compatibility": "same-compute-capability"},
        {"hardware_compatibility": "ampere-plus"},
        {"version_compatible": True},
        {"timing_cache": False},
        {"refit": True},
    ],
    ids=str,
)
def test_every_option_makes_an_engine_that_answers_as_its_model(here, small, tmp_path, options):
    if options.get("hardware_compatibility") == "ampere-plus" and not here.has_tf32:
        pytest.skip("for GPUs from Ampere on")
    here.compile(small, tmp_path / "engine", **options)
    cosine, _ = here.compare(tmp_path / "engine", small, **options)
    assert cosine > 0.9999


def test_without_tf32_it_is_as_near_as_fp32(here, tmp_path):
    wide = 512
    weights = {"w": np.random.default_rng(0).normal(size=(wide, wide))}
    model = written(graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], weights, shape=("n", wide)), tmp_path)
    apart = {}
    for tf32 in (True, False):
        here.compile(model, tmp_path / "engine", tf32=tf32)
        cosine, apart[tf32] = here.compare(tmp_path / "engine", model, tf32=tf32)
        assert cosine > 0.9999
    assert apart[False] < 1e-5
    if here.has_tf32:
        assert apart[False] < apart[True]


class TestTimingCache:
    @pytest.fixture
    def strict(self, here):
        """TensorRT that refuses to time what its cache does not hold."""

        class Builder(here.trt.Builder):
            def create_builder_config(self):
                config = super().create_builder_config()
                config.set_flag(here.trt.BuilderFlag.ERROR_ON_TIMING_CACHE_MISS)
                return config

        module = types.ModuleType("tensorrt")
        module.__dict__.update(vars(here.trt) | {"Builder": Builder, "__name__": "tensorrt"})
        return module

    # A subclass in Python makes the binding warn of its own `__del__`.
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_the_second_build_times_nothing(self, here, resnet, tmp_path, strict):
        for cache in here.caches.glob("*"):
            cache.unlink()
        with pytest.raises(CompileError):
            here.compile(resnet, tmp_path / "engine", trt=strict)
        first = here.compile(resnet, tmp_path / "engine")
        (cache,) = here.caches.glob("*.cache")
        assert cache.stat().st_size > 1000
        assert any(note.startswith(f"timing cache {cache.name}: ") for note in first.notes)
        here.compile(resnet, tmp_path / "again", trt=strict)
        assert here.compare(tmp_path / "again", resnet)[0] > 0.9999

    def test_a_damaged_cache_is_no_reason_to_stop(self, here, small, tmp_path):
        here.compile(small, tmp_path / "engine")
        for cache in here.caches.glob("*.cache"):
            cache.write_bytes(b"damaged")
        here.compile(small, tmp_path / "engine")
        assert here.compare(tmp_path / "engine", small)[0] > 0.9999


def test_the_inspector_tells_what_a_finished_engine_is_made_of(here, resnet, tmp_path):
    summary = here.compile(resnet, tmp_path / "engine").options["summary"]
    assert summary["source"] == "engine"
    assert sum(summary["layers"].values()) > 10
    assert summary["precisions"].get("FP32", 0) > 10
    assert summary["precisions"].get("unknown", 0) < sum(summary["precisions"].values()) / 4
    assert summary["memory"]["device"] > 0


class TestRefit:
    def test_new_weights_answer_and_may_be_exchanged_again(self, here, small, tmp_path):
        here.compile(small, tmp_path / "engine", refit=True)
        for seed in (1, 2):
            other = tmp_path / f"other{seed}.onnx"
            onnx.save(classifier(seed), other)
            assert here.compare(tmp_path / "engine", other, refit=True)[0] < 0.999
            refit(here.trt, tmp_path / "engine", other, tmp_path / "engine")
            assert here.compare(tmp_path / "engine", other, refit=True)[0] > 0.9999

    def test_an_engine_without_the_option_is_refused(self, here, small, tmp_path):
        here.compile(small, tmp_path / "engine")
        with pytest.raises(CompileError, match="was not built to be refitted"):
            refit(here.trt, tmp_path / "engine", small, tmp_path / "out")

    def test_weights_of_another_graph_are_refused(self, here, small, tmp_path):
        here.compile(small, tmp_path / "engine", refit=True)
        model = classifier()
        del model.graph.initializer[0]
        model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [FEATURES, 32]))
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(CompileError, match="does not have the weights that the engine wants"):
            refit(here.trt, tmp_path / "engine", tmp_path / "other.onnx", tmp_path / "out")


class TestRefusals:
    def test_what_its_profile_does_not_allow(self, here, small, tmp_path):
        here.compile(small, tmp_path / "engine")
        session, given = Session(small), {"x": np.ones((2, FEATURES), np.float32)}
        with here.running(tmp_path / "engine", small) as runner:
            with pytest.raises(CompileError, match=r"takes no x of shape \[33, 8\]"):
                runner.run({"x": np.zeros((33, FEATURES), np.float32)})
            assert np.allclose(runner.run(given)["scores"], session.run(given)["scores"], atol=1e-2)

    def test_a_file_that_is_no_engine(self, here, small, tmp_path):
        (tmp_path / "engine").write_bytes(b"no engine" * 1000)
        with pytest.raises(CompileError, match="cannot be loaded on this machine"), here.running(tmp_path / "engine", small):
            pass

    def test_another_gpu(self, here, small, tmp_path):
        other = "sm_75" if here.gpu.architecture != "sm_75" else "sm_80"
        with pytest.raises(CompileError, match="is built on a GPU of that architecture with tensorrt"):
            replace(here, gpu=replace(here.gpu, architecture=other)).compile(small, tmp_path / "engine")


def test_requests_of_many_threads_are_not_mixed_up(here, small, tmp_path):
    here.compile(small, tmp_path / "engine", tf32=False)
    session = Session(small)

    def ask(seed):
        random = np.random.default_rng(seed)
        for size in (1, 5, 32):
            given = {"x": random.normal(size=(size, FEATURES)).astype(np.float32)}
            np.testing.assert_allclose(runner.run(given)["scores"], session.run(given)["scores"], atol=1e-4)

    with here.running(tmp_path / "engine", small, tf32=False) as runner, ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(16)))
