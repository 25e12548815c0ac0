"""Custom resource definitions, as their own projects publish them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuserve_embedded.tools.build import module_folder, modules_folder
from gpuserve_embedded.tools.catalogue import DEFINITIONS
from gpuserve_embedded.tools.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path


def crds(name: str) -> Path:
    """Return a folder of a project's custom resource definitions, one YAML file each.

    Args:
        name: A key of `DEFINITIONS`: `gateway-api`, `traefik`, `cert-manager`, `prometheus-operator` or `keda`.

    Returns:
        A read-only folder in Go's module cache, which may hold other YAML beside them. Its content was
        checked against `embedded/modules/crds/go.sum`.

    Raises:
        ToolError: No such project is known, or its module cannot be fetched.
    """
    definitions = DEFINITIONS.get(name)
    if definitions is None:
        known = ", ".join(DEFINITIONS)
        raise ToolError(name, "no custom resource definitions of that name are known", f"name one of: {known}")
    return module_folder(modules_folder() / "crds", definitions.module) / definitions.folder
