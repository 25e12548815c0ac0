"""A program that is told to end puts away what it made, and ends what it started."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import typer
from e2e_small_model import classifier
from faulty_http import Fault, FaultyServer

from gpuserve.cli.guard import INTERRUPTED, guarded

PATIENCE = 30.0

BUILDS = """
    from pathlib import Path
    from gpuserve_images.bases.commands import run
    from gpuserve_images.ending import end_on_sigterm
    from gpuserve_images.export.processes import ExportProcess

    end_on_sigterm()
    with ExportProcess(Path({child!r}), "model.bin"):
        run(["sh", "-c", "echo $$ > {mark}; exec sleep 600"], what="image", report=print)
"""


def until(happened):
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_the_command_leaves_no_folder(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    content = classifier().SerializeToString()
    with FaultyServer() as server:
        url = server.put("model.onnx", content * (1 + 2**20 // len(content)), Fault(delay=5))
        program = "from gpuserve.cli.main import main; main()"
        environment = {**os.environ, "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-c", program, "images", "pin", url]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until(lambda: list(scratch.glob("gpuserve-pin-*/file")))
            process.terminate()
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert not list(scratch.iterdir())


def test_what_it_started_ends_with_it(tmp_path):
    scratch, mark, child = tmp_path / "scratch", tmp_path / "started", tmp_path / "child"
    scratch.mkdir()
    child.write_text(f"#!/bin/sh\necho $$ > {mark}.export\nexec sleep 600\n")
    child.chmod(0o755)
    program = textwrap.dedent(BUILDS.format(child=str(child), mark=mark))
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        marks = [mark, tmp_path / "started.export"]
        until(lambda: all(each.exists() and each.read_text().strip() for each in marks))
        started = [int(each.read_text()) for each in marks]
        assert all(alive(pid) for pid in started)
        process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    until(lambda: not any(alive(pid) for pid in started))
    assert not list(scratch.iterdir())


def test_a_second_signal_does_not_cut_the_end_short(tmp_path):
    program = textwrap.dedent(f"""
        import time
        from gpuserve_images.ending import end_on_sigterm

        end_on_sigterm()
        try:
            print(flush=True)
            time.sleep(600)
        finally:
            print(flush=True)
            time.sleep(0.5)
            open({str(tmp_path / "put-away")!r}, "w").close()
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        for _ in range(2):
            process.stdout.readline()
            process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert (tmp_path / "put-away").exists()


SWALLOWED = """
    import os, signal, sys, time, weakref
    from gpuserve_images.ending import end_on_sigterm

    class Thing: pass

    end_on_sigterm()
    told = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    thing = Thing()
    reference = weakref.ref(thing, told)
    try:
        del thing
        time.sleep(20)
    finally:
        open({mark!r}, "w").close()
"""


def test_a_signal_in_the_moment_in_which_python_lets_nothing_through_is_not_lost(tmp_path):
    program = textwrap.dedent(SWALLOWED.format(mark=str(tmp_path / "put-away")))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert (tmp_path / "put-away").exists()


def test_a_failure_that_follows_from_the_signal_is_told_as_the_end(tmp_path):
    program = textwrap.dedent("""
        import os, signal
        from gpuserve.cli.guard import guarded
        from gpuserve_images.ending import end_on_sigterm

        @guarded
        def command():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except SystemExit as ending:
                raise ImportError("initialization failed") from ending

        end_on_sigterm()
        try:
            command()
        except BaseException as error:
            raise SystemExit(error.exit_code)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_ctrl_c_in_a_module_that_is_being_loaded_is_no_failure(capsys):
    """Modules in C make an ImportError of whatever is raised while they are initialised."""

    @guarded
    def command():
        raise ImportError("initialization failed") from KeyboardInterrupt()

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err == ""
