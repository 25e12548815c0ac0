"""The stand-in for Pulumi's Python host, spoken to as the engine does, without an engine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, provider_pb2_grpc

from gpuserve_embedded.language_host.interpreter import InterpreterError, find_interpreter
from gpuserve_embedded.language_host.wrappers import write_wrappers


@pytest.fixture
def host():
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gpuserve_embedded.language_host", "127.0.0.1:1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
        yield process, language_pb2_grpc.LanguageRuntimeStub(channel)
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=10)


def info(folder: Path, **options: str) -> language_pb2.ProgramInfo:
    made = language_pb2.ProgramInfo(root_directory=str(folder), program_directory=str(folder), entry_point=".")
    made.options.update(options)
    return made


def test_runs_a_plugin_and_passes_on_what_it_writes_and_its_status(host, tmp_path):
    (tmp_path / "__main__.py").write_text(
        "import os, sys\nprint('port', sys.argv[1:], os.getcwd(), os.environ['GREETING'])\nsys.stderr.write('woe')\nsys.exit(7)\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    request = language_pb2.RunPluginRequest(
        info=info(tmp_path), pwd=str(elsewhere), args=["127.0.0.1:1"], env=["GREETING=a=b"], kind="analyzer"
    )
    answers = list(host[1].RunPlugin(request, timeout=30))
    assert b"".join(answer.stdout for answer in answers).decode() == f"port ['127.0.0.1:1'] {elsewhere} a=b\n"
    assert b"".join(answer.stderr for answer in answers) == b"woe"
    assert answers[-1].WhichOneof("output") == "exitcode"
    assert answers[-1].exitcode == 7


def test_a_plugin_ends_when_the_engine_has_had_enough(host, tmp_path):
    (tmp_path / "__main__.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    call = host[1].RunPlugin(language_pb2.RunPluginRequest(info=info(tmp_path), pwd=str(tmp_path)), timeout=60)
    assert next(call).stdout.startswith(b"ready")
    call.cancel()
    host[0].send_signal(signal.SIGINT)
    assert host[0].wait(timeout=10) == 0


def test_says_what_runs_a_program_and_what_it_needs(host, tmp_path):
    answer = host[1].About(language_pb2.AboutRequest(info=info(tmp_path)), timeout=30)
    assert answer.executable == sys.executable
    assert answer.version == sys.version.split()[0]
    packages = host[1].GetRequiredPackages(language_pb2.GetRequiredPackagesRequest(info=info(tmp_path)), timeout=30).packages
    assert ("kubernetes", "resource") in {(package.name, package.kind) for package in packages}
    request = language_pb2.GetProgramDependenciesRequest(info=info(tmp_path), transitiveDependencies=True)
    assert "pulumi" in {found.name for found in host[1].GetProgramDependencies(request, timeout=30).dependencies}


def test_a_missing_environment_is_the_users_to_make(host, tmp_path):
    with pytest.raises(grpc.RpcError) as raised:
        host[1].About(language_pb2.AboutRequest(info=info(tmp_path, virtualenv="venv")), timeout=30)
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert f"there is no virtual environment at {tmp_path}/venv; run 'pulumi install'" in raised.value.details()


def test_ends_quietly_when_interrupted(host):
    process, stub = host
    stub.GetPluginInfo(empty_pb2.Empty(), timeout=30)
    process.send_signal(signal.SIGINT)
    written = process.communicate(timeout=10)
    assert process.returncode == 0
    assert written == ("", "")


def test_the_project_names_its_interpreter(tmp_path, monkeypatch):
    monkeypatch.delenv("PULUMI_PYTHON_CMD", raising=False)
    assert find_interpreter(tmp_path, {}).executable == sys.executable
    found = find_interpreter(tmp_path, {"toolchain": "uv"}, must_exist=False)
    assert found.executable == str(tmp_path / ".venv" / "bin" / "python")
    variables = found.variables({"PATH": "/usr/bin", "PYTHONHOME": "/somewhere"})
    assert variables == {"PATH": f"{tmp_path}/.venv/bin:/usr/bin", "VIRTUAL_ENV": f"{tmp_path}/.venv"}
    with pytest.raises(InterpreterError, match="no virtual environment"):
        find_interpreter(tmp_path, {"virtualenv": "/nowhere"})
    monkeypatch.setenv("PULUMI_PYTHON_CMD", "/opt/python")
    assert find_interpreter(tmp_path, {}).executable == "/opt/python"


@pytest.mark.slow
def test_dynamic_providers_end_with_the_engine_that_asked_for_them(tmp_path):
    write_wrappers(tmp_path, Path(sys.executable))
    engine = subprocess.Popen(
        ["sh", "-c", '"$0" & echo $!; wait', tmp_path / "pulumi-resource-pulumi-python"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PULUMI_RUNTIME_VIRTUALENV": sys.prefix},
        text=True,
    )
    assert engine.stdout is not None
    provider, port = int(engine.stdout.readline()), int(engine.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(empty_pb2.Empty(), timeout=10)
        assert answer.version
    engine.kill()
    engine.wait(timeout=10)
    wait_until(lambda: not runs(provider))


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
