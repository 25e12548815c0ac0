"""Builds that the garbage collector and other threads meet in TensorRT's logger; without care each of these waits for ever."""

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
from e2e_small_model import classifier

from gpuserve_images.compile.alone import alone

LONG = 60
"""Seconds; each takes two."""

GARBAGE = """
import gc, sys
from pathlib import Path
import tensorrt_rtx
from gpuserve_images.compile.starting import make_logger
from gpuserve_images.compile.parsing import require_accepted

def leave_a_builder():
    cycle = [tensorrt_rtx.Builder(make_logger(tensorrt_rtx))]
    cycle.append(cycle)

for objects in range(1, 200):
    gc.collect()
    leave_a_builder()
    gc.set_threshold(objects)  # until the collector comes: at one of these numbers it does in the logger
    require_accepted(tensorrt_rtx, Path(sys.argv[1]))
    gc.set_threshold(0)
"""

THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import tensorrt_rtx
from gpuserve_images.compile.parsing import require_accepted

sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: require_accepted(tensorrt_rtx, Path(sys.argv[1])), range(64)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [GARBAGE, THREADS], ids=["garbage", "threads"])
def test_a_build_ends(tmp_path: Path, program: str):
    model = tmp_path / "small.onnx"
    model.write_bytes(classifier().SerializeToString())
    subprocess.run([sys.executable, "-c", program, str(model)], check=True, timeout=LONG)


def test_the_collector_rests_meanwhile_and_works_again_after_an_error():
    seen: list[bool] = []

    @alone
    def inner() -> None:
        seen.append(gc.isenabled())

    @alone
    def outer() -> None:
        inner()
        seen.append(gc.isenabled())
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        outer()
    assert seen == [False, False]
    assert gc.isenabled()


def test_what_a_failed_build_held_is_gone_when_its_error_is_seen():
    class Builder:
        pass

    gone = threading.Event()

    @alone
    def fail() -> None:
        builder = Builder()
        weakref.finalize(builder, gone.set)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        fail()
    assert caught.tb is not None  # the error is still held
    assert gone.is_set()
