"""GPUs as NVML tells them, by a module of its shape, and what `gpuserve doctor` makes of them."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
from e2e_nvml import CODES, Device, nvml
from typer.testing import CliRunner

from gpuserve.cli import doctor
from gpuserve.cli.main import app
from gpuserve_images.compile import builders
from gpuserve_images.compile.gpus import Gpu, Gpus, find_gpus
from gpuserve_images.compile.visible import BY_BUS, ORDER, VARIABLE

A100 = Gpu(0, "NVIDIA A100-SXM4-80GB", "GPU-0", "sm_80", 85_899_345_920, "enabled", 2, ("MIG-0-0", "MIG-0-3"))


@pytest.fixture(autouse=True)
def _every_gpu_is_visible(monkeypatch):
    for name in (VARIABLE, ORDER):
        monkeypatch.delenv(name, raising=False)


def test_the_fake_has_the_names_and_codes_of_the_real_module():
    real = pytest.importorskip("pynvml")
    fake = nvml()
    assert {name: getattr(real, name) for name in CODES} == CODES
    assert all(callable(getattr(real, name)) for name in vars(fake) if name.startswith("nvml"))


def test_a_gpu_with_its_architecture_memory_driver_and_mig_devices():
    module = nvml(Device(mig=(1, 1), places=(0, 3)))
    assert find_gpus(module) == Gpus((A100,), "570.133.20", "12.8")
    assert module.open == 0


@pytest.mark.parametrize(
    ("mig", "state"), [((0, 0), "disabled"), ((0, 1), "enabling"), ((1, 0), "disabling"), (None, "unsupported")]
)
def test_mig_states(mig, state):
    (gpu,) = find_gpus(nvml(Device(mig=mig))).found
    assert (gpu.mig, gpu.mig_devices) == (state, 0)


def test_architectures_of_two_digits_and_of_three():
    assert [gpu.architecture for gpu in find_gpus(nvml(Device(), Device(1, capability=(12, 0)))).found] == ["sm_80", "sm_120"]


@pytest.mark.parametrize(
    ("code", "problem", "words"),
    [
        (12, "library", "libnvidia-ml.so.1 is absent"),
        (9, "driver", "installed, but not loaded"),
        (4, "permission", "may not talk to the NVIDIA driver"),
        (999, "unknown", "error 999"),
    ],
)
def test_why_there_is_no_gpu(code, problem, words):
    found = find_gpus(nvml(Device(), start=code))
    assert (found.found, found.problem) == ((), problem)
    assert words in found.reason
    assert found.fix


def test_a_driver_without_a_device_is_something_else_than_no_driver():
    found = find_gpus(nvml())
    assert (found.problem, found.driver) == ("device", "570.133.20")


def test_a_gpu_that_does_not_answer_hides_no_other():
    module = nvml(Device(broken=15), Device(1))
    found = find_gpus(module)
    assert [gpu.index for gpu in found.found] == [1]
    assert found.reason == "GPU 0: the NVIDIA driver answers: error 15"
    assert module.open == 0


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    found = find_gpus()
    assert (found.problem, found.fix) == ("package", "pip install 'gpuserve[gpu]'")


@pytest.fixture
def quick(monkeypatch):
    """Only what has to do with GPUs: the rest asks programs and the cluster."""
    for name in ("_pulumi", "_cluster"):
        monkeypatch.setattr(doctor, name, lambda name=name: doctor.Diagnosis(name[1:], ok=True, found="here"))


def run(monkeypatch, gpus, *options):
    monkeypatch.setattr(doctor, "find_gpus", lambda: gpus)
    result = CliRunner().invoke(app, ["doctor", *options], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    return result.stdout


def test_doctor_tells_the_gpus_as_data(quick, monkeypatch):
    (gpu,) = [
        entry for entry in json.loads(run(monkeypatch, Gpus((A100,), "570.1", "12.8"), "--json")) if entry["subject"] == "gpu"
    ]
    assert gpu["ok"]
    assert gpu["found"] == "0: NVIDIA A100-SXM4-80GB (sm_80, 80 GiB, MIG enabled, 2 devices); driver 570.1, CUDA 12.8"
    assert gpu["details"]["found"][0]["architecture"] == "sm_80"


def test_doctor_says_clearly_why_there_is_none_and_that_none_is_needed(quick, monkeypatch):
    absent = find_gpus(nvml(start=4))
    assert "may not talk to the NVIDIA driver. Fix: Give the user access" in run(monkeypatch, absent)


def test_doctor_lists_every_gpu_and_says_which_are_visible(quick, monkeypatch):
    module = nvml(Device(name="H100", capability=(9, 0)), Device(1))
    gpus = find_gpus(module, {VARIABLE: "GPU-1"})
    told = run(monkeypatch, gpus)
    assert "0: H100 (sm_90, 80 GiB, MIG disabled) (hidden); 1: NVIDIA A100-SXM4-80GB (sm_80, 80 GiB, MIG disabled); " in told
    assert "CUDA takes GPU 1 first" in told
    details = next(entry for entry in json.loads(run(monkeypatch, gpus, "--json")) if entry["subject"] == "gpu")["details"]
    assert [gpu["uuid"] for gpu in details["found"]] == ["GPU-0", "GPU-1"]
    assert details["visible"] == ["GPU-1"]
    assert f"numbers may be others ({ORDER}={BY_BUS} makes them these)" in run(monkeypatch, find_gpus(module, {}))
    hidden = run(monkeypatch, find_gpus(module, {VARIABLE: ""}))
    assert "CUDA_VISIBLE_DEVICES='' chooses none of this machine's GPUs. Fix: Unset it, or set" in hidden


def test_doctor_names_the_builders(quick, monkeypatch):
    told = {entry["subject"]: entry for entry in json.loads(run(monkeypatch, Gpus((A100,)), "--json"))}
    assert told["tensorrt-rtx"]["ok"]
    assert not told["tensorrt"]["needed"]


@pytest.fixture
def tensorrt(monkeypatch):
    """Pretend that these distributions of TensorRT are installed, and nothing else of it."""

    def install(*packages):
        def version(name):
            if name not in packages:
                raise PackageNotFoundError(name)
            return "11.1.0.106"

        monkeypatch.setattr(builders, "version", version)

    return install


@pytest.mark.parametrize(("package", "cuda"), [("tensorrt-cu13", 13), ("tensorrt-cu12", 12), ("tensorrt", None), ("", None)])
def test_what_cuda_a_builder_is_made_for(tensorrt, package, cuda):
    tensorrt(package)
    assert builders.builder_cuda("tensorrt") == cuda


@pytest.mark.parametrize(
    ("package", "driver", "fits"),
    [
        ("tensorrt-cu13", "12.8", False),
        ("tensorrt-cu13", "13.0", True),
        ("tensorrt-cu12", "12.8", True),
        ("tensorrt-cu12", "13.0", True),
        ("tensorrt", "12.8", True),
    ],
)
def test_doctor_says_when_the_driver_is_too_old_for_tensorrt(tensorrt, package, driver, fits):
    tensorrt(package, f"{package}-libs")
    diagnosis = doctor._builder("tensorrt", Gpus((A100,), "570.1", driver))
    assert (diagnosis.ok, diagnosis.needed) == (fits, False)
    words = "11.1.0.106 for CUDA 13, and driver 570.1 runs CUDA 12.8 only. Fix: Look at the driver"
    assert (words in diagnosis.found) is not fits


@pytest.mark.parametrize(
    ("packages", "here"),
    [
        (("tensorrt-cu13",), False),
        (("tensorrt-cu13", "tensorrt-cu13-libs"), True),
        (("tensorrt-cu13", "tensorrt-cu12-libs"), False),
        (("tensorrt",), True),  # of NVIDIA's archive: its libraries are the system's
    ],
)
def test_a_name_alone_is_enough_to_plan_and_doctor_says_that_it_builds_nothing(tensorrt, packages, here):
    tensorrt(*packages)
    diagnosis = doctor._builder("tensorrt", Gpus())
    assert (diagnosis.ok, diagnosis.needed) == (here, False)
    assert ("11.1.0.106, its name alone: enough to plan with, not to build" in diagnosis.found) is not here
