"""Pulumi made ready: one folder to put on PATH, whatever its parts came from."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_embedded.language_host.wrappers import remove_wrappers, write_wrappers
from gpuserve_embedded.tools.catalogue import KUBERNETES_PROVIDER_VERSION
from gpuserve_embedded.tools.errors import ToolError
from gpuserve_embedded.tools.find import ensure, is_stand_in

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class PulumiTools:
    """Where Pulumi's programs are.

    Attributes:
        folder: Put it first on PATH: it holds the engine, and the stand-ins if there are any.
        pulumi: The engine.
        kubernetes_provider: The provider that it starts.
        stand_in: Whether the project's own Python language host is used, for want of the official one.
    """

    folder: Path
    pulumi: Path
    kubernetes_provider: Path
    stand_in: bool


def prepare_pulumi(folder: Path, python: Path, progress: Callable[[str], None]) -> PulumiTools:
    """Get Pulumi's programs and lay them out where the engine looks for them.

    A Kubernetes provider that Pulumi installed itself (`pulumi plugin install resource kubernetes`) is used. Another goes where
    that would put it, under `$PULUMI_HOME` (default `~/.pulumi`): so call this again if that variable changes.

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
    provider = _installed_provider() or ensure("pulumi-resource-kubernetes", progress)
    host = _language_host(pulumi, progress)
    engine = folder / "pulumi"
    if host is None:
        write_wrappers(folder, python)
        # The engine warns of each plugin that does not lie beside its own file, and looks through symbolic links for that.
        _hard_link(pulumi, engine)
    else:
        remove_wrappers(folder)
        if not engine.is_symlink():
            engine.unlink(missing_ok=True)
        _symbolic_link(pulumi, engine)
        _symbolic_link(host, folder / "pulumi-language-python")
    if shutil.which(provider.name) != str(provider):
        _symbolic_link(provider, _plugin_folder() / provider.name)
    return PulumiTools(folder, engine, provider, stand_in=host is None)


def _installed_provider() -> Path | None:
    found = _plugin_folder() / "pulumi-resource-kubernetes"
    return found if found.is_file() and not found.is_symlink() else None  # a link is this project's


def _plugin_folder() -> Path:
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    folder = home / "plugins" / f"resource-kubernetes-v{KUBERNETES_PROVIDER_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _symbolic_link(target: Path, link: Path) -> None:
    if link.is_file() and not link.is_symlink():
        return  # a plugin that Pulumi installed itself
    _put_in_place(link, lambda new: new.symlink_to(target.resolve()))


def _hard_link(target: Path, link: Path) -> None:
    if not (link.is_file() and link.samefile(target)):
        _put_in_place(link, lambda new: _link_or_copy(target.resolve(), new))


def _link_or_copy(target: Path, new: Path) -> None:
    try:
        new.hardlink_to(target)
    except OSError:  # another file system
        shutil.copy2(target, new)


def _put_in_place(path: Path, make: Callable[[Path], None]) -> None:
    """Replace a file in one step: another process may be starting it just now."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
        new = Path(folder) / path.name
        make(new)
        new.replace(path)


def _language_host(pulumi: Path, progress: Callable[[str], None]) -> Path | None:
    # The engine looks beside its own file, and the official bundle keeps it there.
    beside = pulumi.resolve().with_name("pulumi-language-python")
    if beside.is_file() and not is_stand_in(beside):
        return beside
    try:
        return ensure("pulumi-language-python", progress)
    except ToolError:
        return None
