"""The path of TensorRT 11 by the objects of TensorRT for RTX: GPUs, kept times, the inspector, refitting, and which GPU runs what."""

import types
import warnings
from dataclasses import replace

import pytest
import tensorrt_rtx
from e2e_engines import A100, as_tensorrt, build
from e2e_small_model import FEATURES, write_model_folder

from gpuserve_images.compile.builders import architectures, builder_module, builder_version, rtx_module
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus
from gpuserve_images.compile.inspection import summarise_engine
from gpuserve_images.compile.matching import fitting, misfit, runs_on
from gpuserve_images.compile.refit import refit
from gpuserve_images.compile.spec import RTX_ARCHITECTURES, CompileSpec
from gpuserve_images.compile.tensorrt import require_buildable
from gpuserve_images.compile.timing import TimingCache
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target


class TestTensorRT:
    """The path of `tensorrt` 11, run with the objects of TensorRT for RTX, whose interface is the same."""

    def test_without_a_gpu_it_is_refused_before_anything_starts(self, source, shapes, tmp_path):
        with pytest.raises(CompileError, match=r"architectures \(sm_80\): is built on a GPU .*no NVIDIA driver is installed"):
            build(tmp_path / "not-read.onnx", tmp_path / "e", trt=as_tensorrt(Builder=None), shapes=shapes)

    @pytest.mark.parametrize(
        ("found", "fix"),
        [
            ([replace(A100, architecture="sm_90", name="H100")], "or name this one's architecture"),
            (
                [replace(A100, architecture="sm_90", name="H100"), replace(A100, index=1, uuid="GPU-2")],
                "CUDA_VISIBLE_DEVICES=GPU-2",
            ),
        ],
    )
    def test_another_gpu_than_the_declared_one_is_refused(self, found, fix):
        with pytest.raises(CompileError, match=rf"this machine has H100 \(sm_90\).*{fix}"):
            require_buildable(as_tensorrt(), "sm_80", CompileSpec(), lambda: Gpus(tuple(found)))

    def test_on_its_gpu_it_builds_and_keeps_its_times(self, source, shapes, tmp_path):
        here, caches = Gpus((A100,)), tmp_path / "caches"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the borrowed objects' own: their cache is empty
            first, second = (
                build(source, tmp_path / name, trt=as_tensorrt(), shapes=shapes, gpus=here, caches=caches) for name in "ab"
            )
        (kept,) = caches.glob("*.cache")
        assert kept.name == "tensorrt-11.4.0-sm-80-NVIDIA-A100-SXM4-80GB.cache"
        assert kept.stat().st_size > 0
        assert first.notes[-1] == second.notes[-1] == f"timing cache {kept.name}: {kept.stat().st_size} bytes"

    def test_no_times_are_kept_where_the_build_says_so(self, source, shapes, tmp_path):
        options = {"timing_cache": False}
        caches = tmp_path / "caches"
        build(source, tmp_path / "e", trt=as_tensorrt(), shapes=shapes, gpus=Gpus((A100,)), caches=caches, options=options)
        assert not caches.exists()

    def test_a_builder_that_is_not_installed_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
        with pytest.raises(CompileError, match=r"pip install 'gpuserve\[tensorrt\]'"):
            builder_module("tensorrt")
        monkeypatch.setitem(__import__("sys").modules, "tensorrt", as_tensorrt(__version__="10.9.0"))
        with pytest.raises(CompileError, match=r"needs TensorRT 11 or later.*found 10.9.0"):
            builder_module("tensorrt")
        assert builder_version("tensorrt-rtx") == tensorrt_rtx.__version__
        assert architectures(rtx_module()) == RTX_ARCHITECTURES


class Times:
    """A timing cache as TensorRT has it: times by kernel, joined and written."""

    def __init__(self, data: bytes = b"") -> None:
        self.times = set(data.decode().split())

    def combine(self, other: "Times", *, ignore_mismatch: bool) -> bool:
        self.times |= other.times
        return True

    def serialize(self) -> bytes:
        return " ".join(sorted(self.times)).encode()


class Config:
    """The part of a builder's configuration that has to do with times."""

    def __init__(self, *, fits: bool = True) -> None:
        self.cache, self.fits = Times(), fits

    def create_timing_cache(self, data: bytes) -> Times:
        return Times(data)

    def set_timing_cache(self, cache: Times, *, ignore_mismatch: bool) -> bool:
        fits = self.fits or not cache.times
        self.cache = cache if fits else self.cache
        return fits

    def get_timing_cache(self) -> Times:
        return self.cache


class TestTimingCache:
    def cache(self, folder, gpu="A100"):
        return TimingCache(as_tensorrt(), folder, architecture="sm_80", gpu=gpu)

    def test_the_next_build_starts_with_the_times_of_the_last(self, tmp_path):
        first, second = Config(), Config()
        self.cache(tmp_path).load(first).times.add("conv")
        self.cache(tmp_path).keep(first)
        assert self.cache(tmp_path).load(second).times == {"conv"}
        assert self.cache(tmp_path, gpu="H100").load(Config()).times == set()

    def test_two_builds_at_once_lose_nothing_of_each_other(self, tmp_path):
        first, second = Config(), Config()
        self.cache(tmp_path).load(first).times.add("conv")
        self.cache(tmp_path).load(second).times.add("matmul")
        self.cache(tmp_path).keep(first)
        self.cache(tmp_path).keep(second)
        assert self.cache(tmp_path).load(Config()).times == {"conv", "matmul"}
        assert sorted(file.suffix for file in tmp_path.iterdir()) == [".cache", ".lock"]

    def test_times_of_another_driver_are_left_out(self, tmp_path):
        config = Config()
        self.cache(tmp_path).load(config).times.add("conv")
        self.cache(tmp_path).keep(config)
        assert self.cache(tmp_path).load(Config(fits=False)).times == set()


class TestInspection:
    def test_a_finished_engine_is_asked_where_its_gpu_is(self):
        text = """{"Layers": [
            {"Name": "a", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Thirty-two wide channel row major Int8 format"}]},
            {"Name": "b", "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
            {"Name": "c", "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Float"}]}], "Bindings": ["x", "y"]}"""
        inspector = types.SimpleNamespace(get_engine_information=lambda _format: text)
        engine = types.SimpleNamespace(create_engine_inspector=lambda: inspector, device_memory_size_v2=4096)
        runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda _data: engine)
        summary = summarise_engine(as_tensorrt(Runtime=lambda _logger: runtime), b"engine")
        assert summary is not None
        assert summary.layers == {"CaskConvolution": 1, "kgen": 2}
        assert summary.precisions == {"FP16": 1, "FP32": 1, "INT8": 1}
        assert summary.memory == {"device": 4096}

    def test_without_its_gpu_it_cannot_be_asked(self, source, shapes, tmp_path):
        build(source, tmp_path / "e", shapes=shapes)
        assert summarise_engine(rtx_module(), (tmp_path / "e").read_bytes()) is None


class TestRefit:
    def test_without_a_gpu_it_says_what_the_runtime_says(self, source, shapes, tmp_path):
        build(source, tmp_path / "e", shapes=shapes)
        with pytest.raises(CompileError, match=r"cannot be loaded by tensorrt_rtx .*CUDA driver"):
            refit(rtx_module(), tmp_path / "e", source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def runtime(self, *, refittable=True, fits=True, flags=None):
        config = types.SimpleNamespace(set_flag=(flags if flags is not None else []).append)
        engine = types.SimpleNamespace(
            refittable=refittable, create_serialization_config=lambda: config, serialize_with_config=lambda _config: b"new"
        )
        refitter = types.SimpleNamespace(refit_cuda_engine=lambda: fits, get_missing_weights=lambda: [] if fits else ["w1"])
        return as_tensorrt(
            Runtime=lambda _logger: types.SimpleNamespace(deserialize_cuda_engine=lambda _data: engine),
            Refitter=lambda _engine, _logger: refitter,
            OnnxParserRefitter=lambda _refitter, _logger: types.SimpleNamespace(refit_from_file=lambda _path: fits),
        )

    def test_weights_are_exchanged_and_the_engine_stays_refittable(self, source, tmp_path):
        flags: list[object] = []
        (tmp_path / "e").write_bytes(b"old")
        record = refit(self.runtime(flags=flags), tmp_path / "e", source, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"new"
        assert flags == [tensorrt_rtx.SerializationFlag.INCLUDE_REFIT]
        assert set(record.inputs) == {"engine", "model"}

    @pytest.mark.parametrize(
        ("changes", "words"), [({"refittable": False}, r"refit: true"), ({"fits": False}, r"weights that the engine wants: w1")]
    )
    def test_an_engine_or_a_model_that_does_not_fit_is_refused(self, source, tmp_path, changes, words):
        (tmp_path / "e").write_bytes(b"old")
        with pytest.raises(CompileError, match=words):
            refit(self.runtime(**changes), tmp_path / "e", source, tmp_path / "out")


@pytest.mark.usefixtures("named_tensorrt")
class TestKeys:
    """The key of an engine is that of its stage: known at plan time, without building."""

    def key(self, folder, **changes):
        spec = {"engine": "tensorrt-rtx", "architectures": ["sm_80"]} | changes
        model = load_model(folder / "small.yaml").model_dump(exclude_none=True) | {"builds": {"rtx": spec}}
        job = Job(ModelSpec.parse(model), "rtx", folder, Target("gpu"))
        (stage,) = plan(job).ways[0].engines.values()
        return stage.key

    def test_everything_that_decides_an_engine_is_in_its_key(self, tmp_path, monkeypatch):
        folder = write_model_folder(tmp_path / "model").parent
        profile = {"min": [-1, FEATURES], "opt": [-1, FEATURES], "max": [-1, FEATURES]}
        changes = [
            {},
            {"engine": "tensorrt"},
            {"architectures": ["sm_86"]},
            {"precision": "fp16"},
            {"precision": "int8", "calibrate": "samples"},
            {"profiles": {"x": profile}},
            {"compile": {"optimisation_level": 5}},
        ]
        keys = [self.key(folder, **change) for change in changes]
        assert self.key(folder) == keys[0]
        assert self.key(folder, compile={"timing_cache": False}) == keys[0]
        monkeypatch.setattr("gpuserve_images.pipeline.stages.engines._naming_version", lambda _engine: "1.8")
        keys.append(self.key(folder))
        assert len(set(keys)) == len(changes) + 1

    @pytest.mark.parametrize(
        ("built", "gpu", "compatibility", "fits"),
        [
            ("sm_80", "sm_80", "none", True),
            ("sm_80", "sm_86", "none", False),
            ("sm_80", "sm_86", "ampere-plus", True),
            ("sm_80", "sm_120", "ampere-plus", True),
            ("sm_80", "sm_75", "ampere-plus", False),
            ("sm_75", "sm_80", "ampere-plus", False),
            ("sm_80", "sm_86", "same-compute-capability", False),
        ],
    )
    def test_which_gpu_runs_which_engine(self, built, gpu, compatibility, fits):
        assert runs_on(built, gpu, CompileSpec(hardware_compatibility=compatibility)) is fits

    def test_a_pool_that_cannot_run_a_build_is_told_why(self):
        made = ("sm_80", "sm_89")
        assert misfit("tensorrt", made, "sm_89", CompileSpec()) is None
        assert misfit("tensorrt", made, "sm_90", CompileSpec()) == (
            "makes engines for sm_80, sm_89, and the pool's GPUs are sm_90",
            "add sm_90 to the build's `architectures`",
        )
        assert misfit("tensorrt", made, "sm_90", CompileSpec(hardware_compatibility="ampere-plus")) is None
        assert "simulated" in (misfit("tensorrt", made, None, CompileSpec()) or ("", ""))[0]
        assert fitting(made, "sm_89", CompileSpec(hardware_compatibility="ampere-plus")) == "sm_89"
        assert fitting(made, "sm_90", CompileSpec(hardware_compatibility="ampere-plus")) == "sm_80"
