"""What a killed run left is found by its mark and ended; what belongs to a living run, or to none, is left alone."""

import os
import subprocess
import sys

import pytest

from gpuserve_embedded.run.orphans import end_orphans, mark

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]


@pytest.fixture
def sleeping():
    processes = []

    def start(variables):
        process = subprocess.Popen(SLEEP, env={**os.environ, **variables}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_ends_what_belongs_to_a_run_that_is_gone_and_nothing_else(sleeping):
    run = subprocess.run(
        [sys.executable, "-c", "from gpuserve_embedded.run.orphans import mark; print(mark()['GPUSERVE_RUN'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    orphan, own, stranger = sleeping({"GPUSERVE_RUN": run.stdout.strip()}), sleeping(mark()), sleeping({})
    end_orphans()
    assert orphan.wait(timeout=1) != 0
    assert own.poll() is None
    assert stranger.poll() is None


def test_a_process_id_that_was_given_again_is_another_run(sleeping):
    orphan = sleeping({"GPUSERVE_RUN": f"{os.getpid()} 1"})  # this process's id, but of one that started at boot
    end_orphans()
    assert orphan.wait(timeout=1) != 0
