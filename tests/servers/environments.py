"""Python environments of their own for real servers and frameworks: made once per hash-pinned lock file, outside of the checkout.

Locks lie beside this file as `requirements-<name>.lock`; `requirements-<name>.in` says what each is for and how to pin it again.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent


def environment(name: str) -> Path:
    """Return the interpreter of the environment of `requirements-<name>.lock`, made when it is not there yet."""
    lock = HERE / f"requirements-{name}.lock"

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", str(folder))
        install(lock, interpreter=folder / "bin/python")

    return kept("venvs", lock, make) / "bin/python"


def packages(lock: Path) -> Path:
    """Return a folder with the packages of a lock file as they are, without their dependencies and without an interpreter."""
    return kept("packages", lock, lambda folder: install(lock, "--no-deps", "--target", str(folder)))


def install(lock: Path, *options: str, interpreter: Path = Path(sys.executable)) -> None:
    pip = (sys.executable, "-m", "pip", "--python", str(interpreter), "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--require-hashes", "--only-binary", ":all:", *options, "-r", str(lock))


def kept(kind: str, lock: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` filled, once per content of a lock file; two runs at once make it once."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gpuserve", kind)
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode() + lock.read_bytes()).hexdigest()[:16]
    folder = root / f"{lock.stem.removeprefix('requirements-')}-{digest}"
    with (root / f"{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = folder / ".complete"
        if not done.is_file():
            # Scripts hold the folder's path, so it is filled under its final name; the mark comes last.
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


def run(*command: str) -> None:
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        output.seek(0)
        assert done.returncode == 0, f"{' '.join(command)}\n{output.read()[-4000:]}"


def unpacked(files: Mapping[str, Path | bytes], root: Path) -> Path:
    """Write the files of a layout below `root`, as the root of an image would hold them."""
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return root
