"""Pulumi made ready: one folder to put on PATH, whatever its parts came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuserve_embedded.language_host.wrappers import remove_wrappers, write_wrappers
from gpuserve_embedded.tools.errors import ToolError
from gpuserve_embedded.tools.find import ensure, is_stand_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class PulumiTools:
    """Where Pulumi's programs are.

    Attributes:
        folder: Put it first on PATH: it holds the two programs below, and the stand-ins if there are any.
        pulumi: The engine.
        kubernetes_provider: The provider that it starts.
        stand_in: Whether the project's own Python language host is used, for want of the official one.
    """

    folder: Path
    pulumi: Path
    kubernetes_provider: Path
    stand_in: bool


def prepare_pulumi(folder: Path, python: Path, progress: Callable[[str], None]) -> PulumiTools:
    """Get Pulumi's programs and lay them out in one folder.

    Args:
        folder: The folder to fill; made if it is not there. What this project put there before is replaced.
        python: The interpreter of an environment that has this project, for the stand-ins.
        progress: Told, line by line, what is going on.

    Returns:
        Where everything is.

    Raises:
        ToolError: A program is not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pulumi = ensure("pulumi", progress)
    links = {"pulumi": pulumi, "pulumi-resource-kubernetes": ensure("pulumi-resource-kubernetes", progress)}
    host = _language_host(pulumi, progress)
    if host is None:
        write_wrappers(folder, python)
    else:
        remove_wrappers(folder)
        links["pulumi-language-python"] = host
    for name, target in links.items():
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(target.resolve())
    return PulumiTools(folder, folder / "pulumi", folder / "pulumi-resource-kubernetes", stand_in=host is None)


def _language_host(pulumi: Path, progress: Callable[[str], None]) -> Path | None:
    # The engine looks beside its own file, and the official bundle keeps it there.
    beside = pulumi.resolve().with_name("pulumi-language-python")
    if beside.is_file() and not is_stand_in(beside):
        return beside
    try:
        return ensure("pulumi-language-python", progress)
    except ToolError:
        return None
