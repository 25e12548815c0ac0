"""Engines that are run, by stand-ins of CUDA's driver and TensorRT's runtime: what is asked, where it lies, and what is freed."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import tensorrt_rtx
import yaml
from e2e_engines import as_tensorrt
from e2e_gpu import Driver, runtime
from e2e_nvml import Device, nvml
from e2e_small_model import FEATURES, classifier, write_model_folder

from gpuserve_images.compile.cuda import capabilities, cuda_driver
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus, find_gpus
from gpuserve_images.compile.running import loaded, require_runnable
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.oci import resolve
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.key import content_key, image_reference
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.attached import attached_capacity, attached_report
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.report import engines_not_run

PROFILES = {"x": ((1, FEATURES), (16, FEATURES))}
ANY = CompileSpec()


@pytest.fixture
def model(tmp_path):
    onnx.save(classifier(), tmp_path / "small.onnx")
    (tmp_path / "model.engine").write_bytes(b"an engine")
    return tmp_path / "small.onnx"


@pytest.fixture
def gpu(monkeypatch, model):
    """Give this machine GPUs, and an engine that answers as the model does."""

    def give(*architectures, profiles=PROFILES, memory=1 << 30, **engine):
        driver = Driver(*(architectures or ("sm_80",)), memory=memory)
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
        monkeypatch.setitem(sys.modules, "tensorrt", as_tensorrt(Runtime=runtime(driver, model, profiles=profiles, **engine)))
        return driver

    return give


def load(model, signature=None):
    return loaded("tensorrt", model.parent / "model.engine", "sm_80", ANY, signature or Session(model).signature)


def inputs(size, seed=0):
    return {"x": np.random.default_rng(seed).normal(size=(size, FEATURES)).astype(np.float32)}


class TestAnswers:
    def test_are_the_models_at_every_batch_size_and_nothing_is_left_on_the_gpu(self, gpu, model):
        driver, session = gpu(), Session(model)
        with load(model) as engine:
            assert engine.outputs == ["scores"]
            assert engine.signature == session.signature
            for size in (1, 16, 2, 16, 1):
                np.testing.assert_array_equal(engine.run(inputs(size))["scores"], session.run(inputs(size))["scores"])
            assert len(driver.held) == 2  # an input and an output, of the largest batch
        assert (driver.held, driver.contexts, driver.streams) == ({}, 0, 0)

    def test_an_array_that_is_not_contiguous_is_sent_as_what_it_says(self, gpu, model):
        gpu()
        wide = np.random.default_rng(0).normal(size=(4, 2 * FEATURES)).astype(np.float32)
        with load(model) as engine:
            answer = engine.run({"x": wide[:, ::2]})["scores"]
        np.testing.assert_array_equal(answer, Session(model).run({"x": np.ascontiguousarray(wide[:, ::2])})["scores"])

    def test_of_many_threads_are_not_mixed_up(self, gpu, model):
        gpu()
        session = Session(model)

        def ask(seed):
            for size in (1, 5, 16):
                given = inputs(size, seed)
                np.testing.assert_array_equal(engine.run(given)["scores"], session.run(given)["scores"])

        with load(model) as engine, ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))


class TestChoice:
    def test_the_gpu_of_its_architecture_runs_it(self, gpu, model):
        driver = gpu("sm_90", "sm_80")
        with load(model) as engine:
            assert driver.current == 1
            assert engine.gpu == "a GPU of sm_80"

    def test_without_that_architecture_it_is_refused(self, gpu, model):
        gpu("sm_90", "sm_89")
        with pytest.raises(CompileError, match=r"engine \(sm_80\): .*CUDA gives sm_90, sm_89 to this process"), load(model):
            pass

    def test_an_engine_for_ampere_and_later_runs_on_a_later_gpu(self, gpu, model):
        driver = gpu("sm_75", "sm_90")
        anywhere = CompileSpec(hardware_compatibility="ampere-plus")
        with loaded("tensorrt", model.parent / "model.engine", "sm_80", anywhere, Session(model).signature):
            assert driver.current == 1

    def test_what_this_machine_lacks_is_said(self, gpu, monkeypatch):
        gpu()
        here = find_gpus(nvml(Device()), {})
        require_runnable("tensorrt", "sm_80", ANY, lambda: here)
        with pytest.raises(CompileError, match=r"engine \(sm_90\): .*this machine has NVIDIA A100-SXM4-80GB \(sm_80\)"):
            require_runnable("tensorrt", "sm_90", ANY, lambda: here)
        with pytest.raises(CompileError, match="no driver here"):
            require_runnable("tensorrt", "sm_80", ANY, lambda: Gpus(reason="no driver here"))
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
        with pytest.raises(CompileError, match=r"bindings of CUDA are not installed.*pip install 'gpuserve\[gpu\]'"):
            require_runnable("tensorrt", "sm_80", ANY, lambda: here)

    def test_nvidias_own_bindings_say_what_is_here(self):
        """The real module, up to the driver: this is as far as a machine without a GPU goes."""
        found = find_gpus().visible
        if found:
            assert sorted(capabilities(cuda_driver())) == sorted(gpu.architecture for gpu in found)
        else:
            with pytest.raises(CompileError, match=r"no NVIDIA driver is installed|cuInit"):
                capabilities(cuda_driver())


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "without its input x"),
            ({"x": np.zeros((1, FEATURES))}, "takes float32 as x, and was given float64"),
            ({"x": np.zeros((17, FEATURES), np.float32)}, r"takes no x of shape \[17, 8\].*`profiles`"),
            ({"x": np.zeros((1, FEATURES + 1), np.float32)}, r"takes no x of shape \[1, 9\]"),
        ],
    )
    def test_a_request_that_does_not_fit_is_refused_and_the_next_is_answered(self, gpu, model, given, words):
        gpu()
        with load(model) as engine:
            with pytest.raises(CompileError, match=words):
                engine.run(given)
            np.testing.assert_array_equal(engine.run(inputs(3))["scores"], Session(model).run(inputs(3))["scores"])

    def test_a_full_gpu_is_named_as_that_and_all_is_freed(self, gpu, model):
        driver = gpu(memory=64)
        with (
            pytest.raises(CompileError, match="cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: cuda error out of memory"),
            load(model) as engine,
        ):
            engine.run(inputs(16))
        assert (driver.held, driver.contexts, driver.streams) == ({}, 0, 0)

    def test_an_engine_of_another_version_is_refused_and_all_is_freed(self, gpu, model):
        driver = gpu(loads=False)
        with pytest.raises(CompileError, match=r"the plan file is of another version.*tensorrt 11.4.0"), load(model):
            pass
        assert (driver.held, driver.contexts, driver.streams) == ({}, 0, 0)

    def test_another_models_engine_is_refused(self, gpu, model):
        gpu()
        signature = Session(model).signature
        other = signature.model_copy(update={"outputs": (signature.outputs[0].model_copy(update={"name": "logits"}),)})
        with (
            pytest.raises(CompileError, match="has the inputs and outputs x, scores, and its model others"),
            load(model, other),
        ):
            pass

    def test_no_gpu_is_cudas_own_word(self, gpu, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", Driver())
        monkeypatch.setitem(sys.modules, "tensorrt", as_tensorrt())
        with pytest.raises(CompileError, match="cuInit: CUDA_ERROR_NO_DEVICE"), load(model):
            pass


ENGINE = "engine"
TENSORRT = {"engine": "tensorrt", "architectures": ["sm_80"], "base": "scratch"}


@pytest.fixture
def make(tmp_path, registry, request, monkeypatch, named_tensorrt):
    """Build on a machine with an A100, which TensorRT's objects are stood in for on."""
    folder = write_model_folder(tmp_path / "model", slo={"latency_p95": "10s"}).parent
    path = f"{registry.host}/w{abs(hash(request.node.name)) % 10**8}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def run(spec=TENSORRT, *, has_gpu=True, **changes):
        monkeypatch.setitem(sys.modules, "pynvml", nvml(*([Device()] if has_gpu else []), start=0 if has_gpu else 12))
        data = yaml.safe_load((folder / "small.yaml").read_text()) | {"builds": {ENGINE: spec}} | changes
        (folder / "small.yaml").write_text(yaml.safe_dump(data))
        loaded_model = load_model(folder / "small.yaml")
        return build(loaded_model, ENGINE, folder=folder, registry=path, cache=tmp_path / "cache", target=Target("gpu"))

    def tag():
        model = load_model(folder / "small.yaml")
        return image_reference(model, content_key(model, ENGINE, folder=folder, target=Target("gpu")), path)

    run.tag = tag
    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the borrowed builder's timing cache
class TestBuilds:
    def test_where_its_gpu_is_an_engine_is_compared_and_timed(self, gpu, make):
        driver = gpu(strays=0.0625)
        report = make(TENSORRT | {"verify": {"max_abs_error": 0.1, "top1_agreement": 0.9}})
        attached = attached_report(report.reference)
        assert attached.notes == report.notes == ()
        assert attached.ran["sm_80"].max_abs_error == pytest.approx(0.0625, abs=1e-5)
        assert attached.ran["sm_80"].batches == attached.parity.batches == (1, 8, 16)
        assert attached.parity.max_abs_error < 1e-5  # the file's own
        assert "one instance on a GPU of sm_80," in attached.capacity.where
        assert attached.capacity.cores is None
        assert attached_capacity(report.reference).requests_at_slo > 0
        assert (driver.held, driver.contexts, driver.streams) == ({}, 0, 0)

    def test_an_engine_that_strays_is_not_pushed(self, gpu, make):
        gpu(strays=0.0625)
        with pytest.raises(ParityError, match=r"build engine, engine for sm_80: verify \(max_abs_error is 0.0625"):
            make(TENSORRT | {"verify": {"max_abs_error": 0.01}})
        assert resolve(make.tag()) is None
        report = make(TENSORRT | {"verify": {"max_abs_error": 0.1}})
        assert resolve(make.tag()).digest == report.digest
        # Another bar, the same engine: what it differs by is known.
        assert {run.stage: run.origin for run in report.stages}["verify-engine"] == "local"

    def test_an_engine_that_its_own_gpu_cannot_load_is_not_pushed(self, gpu, make):
        gpu(loads=False)
        with pytest.raises(CompileError, match="the plan file is of another version"):
            make()

    def test_of_several_architectures_those_of_this_machine_are_run(self, gpu, make, monkeypatch):
        gpu()
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", sys.modules["tensorrt"])
        spec = {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]}
        monkeypatch.setattr("gpuserve_images.pipeline.stages.engines.builder_module", lambda _: tensorrt_rtx)
        report = make(spec)
        attached = attached_report(report.reference)
        assert set(attached.ran) == {"sm_80"}
        reason = "cannot be run here: this machine has NVIDIA A100-SXM4-80GB (sm_80)"
        assert report.notes == attached.notes == (engines_not_run(["sm_89"], reason),)
        # What was found out about an engine counts on a machine without its GPU too.
        again = make(spec | {"verify": {"max_abs_error": 0.5}}, has_gpu=False)
        assert set(attached_report(again.reference).ran) == {"sm_80"}

    def test_bench_times_the_engine_of_this_machines_gpu(self, gpu, make, cli, tmp_path):
        gpu()
        make()
        asked = ("bench", tmp_path / "model/small.yaml", "--build", ENGINE, "--concurrency", "1,2", "--batch", "1,8")
        result = cli(*asked, "--duration", "30ms", "--warm-up", "0s", "--json")
        assert result.exit_code == 0, result.output
        capacity = json.loads(result.stdout)["capacity"]
        assert "one instance on a GPU of sm_80," in capacity["where"]
        assert [(point["batch"], point["concurrency"]) for point in capacity["points"]] == [(1, 1), (1, 2), (8, 1), (8, 2)]


def test_bench_of_engines_without_their_gpu_says_what_this_machine_has(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(Device(capability=(9, 0), name="H100")))
    path = write_model_folder(tmp_path / "model", builds={ENGINE: TENSORRT, "own": {"engine": "native"}})
    result = cli("bench", path, "--build", ENGINE)
    assert (result.exit_code, "makes engines for sm_80, and this machine has H100 (sm_90)" in result.stderr) == (1, True)
    assert "with `--url`" in result.stderr
    own = cli("bench", path, "--build", "own")
    assert (own.exit_code, "serves the source model as it is" in own.stderr) == (1, True)
