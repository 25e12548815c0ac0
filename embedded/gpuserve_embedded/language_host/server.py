"""The language host's side of Pulumi's protocol."""

# ruff: noqa: ARG002, D102, N802 - the methods' names, arguments and meanings are the protocol's

from __future__ import annotations

import importlib.metadata
import json
import os
import queue
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import empty_pb2, json_format

from gpuserve_embedded.language_host.interpreter import Interpreter, InterpreterError, find_interpreter
from gpuserve_embedded.language_host.protocol import language_pb2, language_pb2_grpc, plugin_pb2

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from gpuserve_embedded.language_host.processes import Processes

# With this status a program says that it has shown the user what is wrong, so the engine need not.
_ALREADY_TOLD = 32
_READ_BYTES = 1 << 16
_PROGRAM_RUNNER = Path(__file__).with_name("program.py")


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs Python programs, policy packs and plugins for one engine; the names are the protocol's."""

    def __init__(self, engine: str, processes: Processes) -> None:
        """Serve an engine.

        Args:
            engine: The engine's address, handed to programs for their log messages.
            processes: Where to start programs.
        """
        self._engine = engine
        self._processes = processes

    def Handshake(self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext) -> Any:
        self._engine = request.engine_address or self._engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def About(self, request: language_pb2.AboutRequest, context: grpc.ServicerContext) -> Any:
        interpreter = _interpreter(request.info, context)
        return language_pb2.AboutResponse(executable=interpreter.executable, version=interpreter.version())

    def GetRequiredPlugins(self, request: Any, context: grpc.ServicerContext) -> Any:
        plugins = _required(plugin_pb2.PluginDependency, request, context)
        return language_pb2.GetRequiredPluginsResponse(plugins=plugins)

    def GetRequiredPackages(self, request: Any, context: grpc.ServicerContext) -> Any:
        packages = _required(plugin_pb2.PackageDependency, request, context)
        return language_pb2.GetRequiredPackagesResponse(packages=packages)

    def GetProgramDependencies(self, request: Any, context: grpc.ServicerContext) -> Any:
        packages = _interpreter(request.info, context).packages()
        needed = {_normal(name) for package in packages for name in package["needs"]}
        chosen = [p for p in packages if request.transitiveDependencies or _normal(p["name"]) not in needed]
        dependencies = [language_pb2.DependencyInfo(name=p["name"], version=p["version"]) for p in chosen]
        return language_pb2.GetProgramDependenciesResponse(dependencies=dependencies)

    def RuntimeOptionsPrompts(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> Any:
        interpreter = _interpreter(request.info, context)
        command = [interpreter.executable, "-u", str(_PROGRAM_RUNNER), *_run_flags(request, self._engine)]
        command += [request.info.entry_point or ".", *request.args]
        variables = interpreter.variables(os.environ) | {
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        with self._processes.start(command, request.info.program_directory, variables, capture=False) as process:
            context.add_callback(process.terminate)
            status = process.wait()
        if status == 0:
            return language_pb2.RunResponse()
        if status == _ALREADY_TOLD:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"Program exited with non-zero exit code: {status}")

    def RunPlugin(self, request: language_pb2.RunPluginRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        interpreter = _interpreter(request.info, context)
        command = [interpreter.executable, "-u", request.info.program_directory, *request.args]
        variables = interpreter.variables({name: value for name, _, value in (line.partition("=") for line in request.env)})
        with self._processes.start(command, request.pwd, variables, capture=True) as process:
            context.add_callback(process.terminate)
            for name, text in _output(process):
                is_error = name == "stderr"
                yield language_pb2.RunPluginResponse(stderr=text) if is_error else language_pb2.RunPluginResponse(stdout=text)
            yield language_pb2.RunPluginResponse(exitcode=process.wait())

    def InstallDependencies(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        folder = Path(request.info.program_directory or request.directory)
        interpreter = _interpreter(request.info, context, must_exist=False)
        for command in _install_commands(folder, interpreter):
            variables = interpreter.variables(os.environ)
            with self._processes.start(command, str(folder), variables, capture=True) as process:
                context.add_callback(process.terminate)
                for name, text in _output(process):
                    yield language_pb2.InstallDependenciesResponse(**{name: text})
                if process.wait() != 0:
                    context.abort(grpc.StatusCode.INTERNAL, f"{' '.join(command)} ended with status {process.returncode}")

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> Any:
        self._processes.end_all()
        return empty_pb2.Empty()


def _interpreter(info: language_pb2.ProgramInfo, context: grpc.ServicerContext, *, must_exist: bool = True) -> Interpreter:
    options = json_format.MessageToDict(info.options)
    try:
        return find_interpreter(Path(info.root_directory or "."), options, must_exist=must_exist)
    except InterpreterError as error:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        raise


def _required(kind: Any, request: Any, context: grpc.ServicerContext) -> list[Any]:
    """Return the plugins that a program's SDKs ask for, as messages of a kind."""
    plugins = _interpreter(request.info, context).plugins()
    return [kind(name=one["name"], kind="resource", version=one["version"], server=one["server"]) for one in plugins]


def _run_flags(request: language_pb2.RunRequest, engine: str) -> Iterator[str]:
    values = {
        "monitor": request.monitor_address,
        "engine": engine,
        "project": request.project,
        "root-directory": request.info.root_directory,
        "stack": request.stack,
        "pwd": request.pwd,
        "parallel": str(request.parallel),
        "organization": request.organization,
    }
    yield from (f"--{name}={value}" for name, value in values.items() if value)
    if request.dryRun:
        yield "--dry-run"


def _install_commands(folder: Path, interpreter: Interpreter) -> Iterator[list[str]]:
    if interpreter.environment is not None and not Path(interpreter.executable).exists():
        yield [sys.executable, "-m", "venv", str(interpreter.environment)]
    pip = [interpreter.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if (folder / "requirements.txt").exists():
        yield [*pip, "-r", "requirements.txt"]
    elif (folder / "pyproject.toml").exists():
        yield [*pip, "-e", "."]


def _output(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, bytes]]:
    """What a process writes, as it comes: the name of the stream and the bytes."""
    pieces: queue.Queue[tuple[str, bytes]] = queue.Queue()
    streams = {"stdout": process.stdout, "stderr": process.stderr}
    for name, stream in streams.items():
        threading.Thread(target=_read, args=(name, stream, pieces), daemon=True).start()
    ended = 0
    while ended < len(streams):
        name, piece = pieces.get()
        if piece:
            yield name, piece
        else:
            ended += 1


def _read(name: str, stream: Any, pieces: queue.Queue[tuple[str, bytes]]) -> None:
    while piece := os.read(stream.fileno(), _READ_BYTES):
        pieces.put((name, piece))
    pieces.put((name, b""))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
