"""Programs built from the Go modules that this project pins."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuserve_embedded.tools.cache import put, tools_folder
from gpuserve_embedded.tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuserve_embedded.tools.catalogue import GoModule

_FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")
# Static, so that the same file runs in a pod of an empty image; and nothing of the user's own settings in the result.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
_STILL_AT_WORK_SECONDS = 30.0
_TAIL_LINES = 20


def modules_folder() -> Path:
    """The folder of Go modules: beside this package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parents[1]
    inside = package / "modules"
    return inside if inside.is_dir() else package.parent / "modules"


def build(module: GoModule, progress: Callable[[str], None]) -> Path:
    """Return the folder of a module's programs, building them if this content of it was never built here.

    Args:
        module: What to build.
        progress: Told what is going on, every half minute.

    Returns:
        The folder that holds the programs and their links.

    Raises:
        ToolError: Go is missing or too old, or the build failed.
    """
    source = modules_folder() / module.name
    name = f"{module.name}-{build_key(source, module, go_version(source))}"
    return put(name, lambda folder: _build_into(folder, source, module, progress), progress)


def build_key(source: Path, module: GoModule, compiler: str) -> str:
    """What a build's result depends on, as 16 hexadecimal digits.

    Args:
        source: The module's folder: every file counts, and go.sum pins all that they refer to.
        module: Says what is built from it, and how.
        compiler: The Go version.

    Returns:
        The start of a SHA-256 sum.
    """
    total = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(source)}\0{content}\n".encode())
    files = [[file.module, file.path, file.name, file.version] for file in module.files]
    how = [compiler, _FLAGS, _linker_flags(module), sorted(module.packages.items()), files, module.links]
    if module.tags:
        how.append(module.tags)
    total.update(json.dumps(how).encode())
    return total.hexdigest()[:16]


@cache
def go_version(source: Path) -> str:
    """The version of the Go toolchain that builds a module, for example `go1.26.1`.

    Args:
        source: The module's folder: its go.mod may ask for a newer toolchain than the one on PATH, which then fetches it.

    Raises:
        ToolError: There is none, or none that is new enough.
    """
    try:
        run = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd=source)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise ToolError(
            source.name,
            f"it comes from a Go module, and there is no Go toolchain to build it with ({said})",
            f"install Go{_newest_wanted()}, and put it on PATH",
        ) from error
    return run.stdout.strip()


def _newest_wanted() -> str:
    """Return the newest version that any module asks for, so that one installation does for all."""
    texts = [file.read_text() for file in modules_folder().glob("*/go.mod")]
    versions = [found[1] for text in texts if (found := re.search(r"^go (\d+(?:\.\d+)*)$", text, re.MULTILINE))]
    newest = max(versions, key=lambda version: [int(part) for part in version.split(".")], default=None)
    return f" {newest} or newer" if newest else ""


def module_folder(folder: Path, module: str) -> Path:
    """Fetch a module that the go.mod in `folder` requires, checked against its go.sum, and return where it lies.

    Raises:
        ToolError: It cannot be fetched, or is not what go.sum says.
    """
    go_version(folder)
    command = ["go", "mod", "download", "-json", module]
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(run.stdout) if run.stdout.strip() else {}
    if run.returncode != 0 or "Dir" not in found:
        reason = str(found.get("Error") or run.stderr.strip() or "its zip has no content")
        raise ToolError(
            module, f"the Go module cannot be fetched: {reason}", "check the network, GOPROXY and the module's go.sum line"
        )
    return Path(found["Dir"])


def _build_into(folder: Path, source: Path, module: GoModule, progress: Callable[[str], None]) -> None:
    work, temporary = folder / ".source", folder / ".temporary"
    shutil.copytree(source, work)
    temporary.mkdir()
    # Go leaves its temporary files when it is ended: here they go with the unfinished build, by the next one at the latest.
    environment = {**os.environ, **_ENVIRONMENT, "GOTMPDIR": str(temporary)}
    for file in module.files:
        original = module_folder(work, file.module) / file.path
        content = original.read_bytes()
        if file.version is not None:
            content = json.dumps({**json.loads(content), "version": file.version}).encode()
        (work / file.name).write_bytes(content)
    progress(f"building {module.name} from its Go module: about {module.minutes:g} min on two cores, the first time only")
    log = tools_folder() / f"{module.name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        for program, package in module.packages.items():
            command = ["nice", "-n", "5", "go", "build", *_FLAGS, "-ldflags", _linker_flags(module)]
            command += ["-tags", ",".join(module.tags)] if module.tags else []
            command += ["-o", str(folder / program), package]
            process = subprocess.Popen(command, cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT)
            _wait(process, module.name, started, progress)
            if process.returncode != 0:
                raise _failure(module.name, log, process.returncode)
    for used in (work, temporary):
        shutil.rmtree(used)
    for link in module.links:
        (folder / link).symlink_to(next(iter(module.packages)))
    progress(f"built {module.name} in {time.monotonic() - started:.0f} s")


def _wait(process: subprocess.Popen[bytes], name: str, started: float, progress: Callable[[str], None]) -> None:
    try:
        while True:
            try:
                process.wait(_STILL_AT_WORK_SECONDS)
            except subprocess.TimeoutExpired:
                progress(f"still building {name}: {time.monotonic() - started:.0f} s")
            else:
                return
    finally:
        if process.poll() is None:  # interrupted: an orphaned compiler would go on eating the machine
            process.terminate()
            process.wait()


def _linker_flags(module: GoModule) -> str:
    return " ".join(["-s", "-w", *_settings(module.variables)])


def _settings(variables: Mapping[str, str]) -> list[str]:
    return [f"-X {name}={value}" for name, value in sorted(variables.items())]


def _failure(program: str, log: Path, status: int) -> ToolError:
    lines = log.read_text(errors="replace").splitlines()
    return ToolError(
        program,
        f"the build from its Go module ended with status {status}",
        "read the lines above; a module that cannot be fetched needs the network or GOPROXY, and a full disk needs room "
        "(40 GB for all first builds); then run the same command again",
        log=log,
        tail=tuple(lines[-_TAIL_LINES:]),
    )
