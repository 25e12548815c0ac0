"""Pulumi's protocol without Pulumi's SDK.

The engine starts the language host twice for each command, and importing the SDK takes most of that time (half a second
of processor time), though the host uses nothing of it but the generated messages. So the SDK's packages are entered
as bare folders while these are imported: their modules are found, their own code does not run.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_PACKAGES = ("pulumi", "pulumi.runtime", "pulumi.runtime.proto")


@contextmanager
def _bare_packages() -> Generator[None]:
    if "pulumi" in sys.modules:
        yield
        return
    found = importlib.util.find_spec("pulumi")
    if found is None or found.origin is None:
        raise ImportError(f"Pulumi's Python SDK is not installed for {sys.executable}")
    for name in _PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [str(Path(found.origin).parent.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in _PACKAGES:  # whoever imports the SDK afterwards gets the real one
            del sys.modules[name]


with _bare_packages():
    from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

__all__ = ["language_pb2", "language_pb2_grpc", "plugin_pb2"]
