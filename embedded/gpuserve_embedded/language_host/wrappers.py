"""The executable files by which Pulumi's engine finds the stand-ins."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

# `-P`: the engine starts plugins in the user's project, whose modules must not shadow the host's own.
_LANGUAGE_HOST = """\
#!/bin/sh
# The stand-in for Pulumi's Python language host: see gpuserve_embedded.language_host.
exec {python} -P -m gpuserve_embedded.language_host "$@"
"""

# Dynamic providers run in the project's environment, as their code does; the engine says which by these variables.
_DYNAMIC_PROVIDER = """\
#!/bin/sh
# The stand-in for Pulumi's host of dynamic providers: see gpuserve_embedded.language_host.
environment="${{PULUMI_RUNTIME_VIRTUALENV:-}}"
if [ -z "$environment" ] && [ "${{PULUMI_RUNTIME_TOOLCHAIN:-}}" = uv ]; then
    environment=.venv
fi
if [ -z "$environment" ]; then
    exec {python} -u {provider} "$@"
fi
if [ ! -x "${{environment%/}}/bin/python" ]; then
    echo "Pulumi.yaml: runtime.options.virtualenv: '$environment' is no virtual environment: run 'pulumi install'" >&2
    exit 1
fi
unset PYTHONHOME
exec "${{environment%/}}/bin/python" -u {provider} "$@"
"""

_WRAPPERS = {"pulumi-language-python": _LANGUAGE_HOST, "pulumi-resource-pulumi-python": _DYNAMIC_PROVIDER}
_PROVIDER = Path(__file__).with_name("dynamic_provider.py")
_EXECUTABLE = 0o755


def write_wrappers(bin_dir: Path, python: Path) -> None:
    """Write the stand-ins as executables, to be found on PATH.

    Policy packs and component plugins need none of their own: the engine starts them through the language host.

    Args:
        bin_dir: The folder to write into; made if it is not there.
        python: The interpreter of an environment that has this project and Pulumi's SDK.
    """
    bin_dir.mkdir(parents=True, exist_ok=True)
    for name, text in _WRAPPERS.items():
        # absolute, not resolved: an environment's interpreter is a link, and its target would miss the environment
        names = {"python": python.absolute(), "provider": _PROVIDER}
        _write(bin_dir / name, text.format_map({key: shlex.quote(str(path)) for key, path in names.items()}))


def remove_wrappers(bin_dir: Path) -> None:
    """Take the stand-ins away again, for the official programs are here now."""
    for name in _WRAPPERS:
        (bin_dir / name).unlink(missing_ok=True)


def _write(wrapper: Path, text: str) -> None:
    if wrapper.is_file() and wrapper.read_text() == text:
        return
    new = wrapper.with_name(f".{wrapper.name}.{os.getpid()}")  # replaced in one step: the engine may be starting it just now
    new.write_text(text)
    new.chmod(_EXECUTABLE)
    new.replace(wrapper)
