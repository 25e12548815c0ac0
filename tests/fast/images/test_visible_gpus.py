"""Which GPU an engine is built on, where `CUDA_VISIBLE_DEVICES` chooses among several; what an error advises is tried."""

import re

import pytest
from e2e_engines import as_tensorrt
from e2e_nvml import Device, nvml

from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import find_gpus
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.compile.tensorrt import require_buildable
from gpuserve_images.compile.visible import BY_BUS, ORDER, VARIABLE

H100 = Device(0, (9, 0), name="H100")
A100 = Device(1, (8, 0), name="A100")
SPLIT = Device(1, (8, 0), mig=(1, 1), places=(2, 4), name="A100")
ALIKE = (Device(0), Device(1), Device(2), Device(10))


def visible(text, devices=ALIKE, order=None):
    environment = {VARIABLE: text} if text is not None else {}
    return find_gpus(nvml(*devices), environment | ({ORDER: order} if order else {}))


def gpu_of(environment, devices, architecture="sm_80"):
    """The GPU that TensorRT builds on."""
    found = find_gpus(nvml(*devices), environment)
    return require_buildable(as_tensorrt(), architecture, CompileSpec(), lambda: found)


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("none", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        (" 2 , +1", [2, 1]),
        ("0,2,-1,1", [0, 2]),
        ("0,7,1", [0]),
        ("0,GPU-1", [0]),
        ("1,1", []),
        ("GPU-2", [2]),
        ("GPU-10,GPU-0", [3, 0]),
        ("GPU-2,GPU-9,GPU-0", [2]),
        ("GPU-2,0", [2]),
        ("GPU-1", []),  # the beginning of two
        ("GPU-2,GPU-2", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(text, indices):
    gpus = visible(text)
    assert [gpu.index for gpu in gpus.found] == [0, 1, 2, 3]
    assert [gpu.index for gpu in gpus.visible] == indices
    assert gpus.problem == ("" if indices else "hidden")


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("MIG-1-2", [1]),
        ("MIG-1-4,MIG-1-2", [1]),
        ("MIG-1-", []),  # the beginning of two
        ("MIG-GPU-1/2/0", [1]),
        ("MIG-GPU-7/2/0", []),
    ],
)
def test_a_mig_device_is_one_of_its_gpu(text, indices):
    assert [gpu.index for gpu in visible(text, (H100, SPLIT)).visible] == indices


def test_a_mig_device_that_does_not_tell_its_uuid_is_counted():
    (gpu,) = visible(None, (Device(mig=(1, 1), places=(0, 1), silent_mig=True),)).found
    assert (gpu.mig_devices, gpu.mig_uuids, gpu.choosing) == (2, (), "GPU-0")


@pytest.mark.parametrize(
    ("text", "order", "devices", "certain"),
    [
        (None, None, (H100, A100), False),
        ("1", None, (H100, A100), False),
        ("1", "FASTEST_FIRST", (H100, A100), False),
        (None, BY_BUS, (H100, A100), True),
        ("1", BY_BUS, (H100, A100), True),
        ("GPU-1", None, (H100, A100), True),
        ("", None, (H100, A100), True),
        ("1", None, ALIKE, True),
    ],
)
def test_the_first_gpu_is_known_unless_cuda_orders_unlike_ones_by_speed(text, order, devices, certain):
    assert visible(text, devices, order).choice.certain is certain


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {VARIABLE: "0"},
        {VARIABLE: "1"},
        {VARIABLE: "GPU-0"},
        {VARIABLE: "GPU-0,GPU-1"},
        {VARIABLE: ""},
        {ORDER: BY_BUS},
        {ORDER: BY_BUS, VARIABLE: "0"},
    ],
)
@pytest.mark.parametrize("second", [A100, SPLIT], ids=["whole", "split"])
def test_what_the_refusal_advises_makes_the_next_call_succeed(environment, second):
    with pytest.raises(CompileError) as refused:
        gpu_of(environment, (H100, second))
    advice = re.search(r"Set (CUDA_VISIBLE_DEVICES)=(\S+)\.$", refused.value.fix)
    assert advice
    assert gpu_of(environment | {advice[1]: advice[2]}, (H100, second)) == "A100"


def test_the_gpu_that_is_first_is_taken():
    assert gpu_of({ORDER: BY_BUS, VARIABLE: "1,0"}, (H100, A100)) == "A100"
    assert gpu_of({VARIABLE: "2"}, ALIKE) == "NVIDIA A100-SXM4-80GB"


def test_the_refusal_says_which_gpu_would_be_taken():
    with pytest.raises(CompileError, match=r"has H100 \(sm_90\), A100 \(sm_80\), of which CUDA takes H100 first\. "):
        gpu_of({VARIABLE: "GPU-0"}, (H100, A100))
    with pytest.raises(CompileError, match=r"of which CUDA takes the fastest first\. Fix: Set CUDA_VISIBLE_DEVICES=GPU-1"):
        gpu_of({}, (H100, A100))


def test_no_gpu_is_advised_where_none_has_the_architecture():
    with pytest.raises(CompileError, match="Build it on a machine with that GPU"):
        gpu_of({}, (H100, A100), "sm_86")
    with pytest.raises(CompileError, match=r"chooses none of this machine's GPUs.*or build it as a Job on the pool"):
        gpu_of({VARIABLE: ""}, (H100, A100), "sm_86")


def test_a_refittable_engine_needs_a_gpu_that_is_visible():
    hidden = visible("")
    with pytest.raises(CompileError, match=r"compile.refit .*CUDA_VISIBLE_DEVICES='' chooses none of this machine's GPUs"):
        require_buildable(rtx_module(), "sm_80", CompileSpec(refit=True), lambda: hidden)
    assert not require_buildable(rtx_module(), "sm_80", CompileSpec(refit=True), lambda: visible("0"))
