"""The environment in which `pulumi` and `kubectl` work by hand exactly as they do in `make up`."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.layout import KUBECONFIG, LOOPBACK, PODS, SERVICES, STATE, TEMPORARY
from gpuserve_embedded.run.steps import Progress
from gpuserve_embedded.tools import ensure, prepare_pulumi

LOCAL_PASSPHRASE = "local"  # noqa: S105 - protects nothing: the embedded stack's state dies with its cluster
"""Pulumi wants a passphrase; `stacks/Pulumi.local.yaml` carries the salt that belongs to this one."""

_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_UNPROXIED: Final = ("localhost", str(LOOPBACK), str(PODS), str(SERVICES))
"""What no proxy can reach: the registry, the gateway, the pods and the Services of this machine."""


def is_external() -> bool:
    """Tell whether the user brought a cluster: `KUBECONFIG` is set to another file than the embedded one's."""
    given = os.environ.get("KUBECONFIG")
    return bool(given) and Path(given).resolve() != KUBECONFIG.resolve()


def checkout() -> Path:
    """Return the folder that holds `Pulumi.yaml`: this one or the nearest above it.

    Raises:
        FileNotFoundError: When there is none.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "Pulumi.yaml").exists() and (folder / "stacks").is_dir():
            return folder
    msg = f"{Path.cwd()}: no Pulumi.yaml here or above; run this inside a checkout of gpuserve"
    raise FileNotFoundError(msg)


def prepare(folder: Path, stack: str, progress: Progress) -> dict[str, str]:
    """Put the tools into `.gpuserve/bin`, write `.gpuserve/env`, and return the variables.

    The file names the stack besides: it is the one that `gpuserve` speaks of here. Pulumi has a selected one of its own, which a
    variable would hide.

    Raises:
        ToolError: When a tool can be neither found nor downloaded nor built.
    """
    own = folder / ".gpuserve"
    own.mkdir(exist_ok=True)
    prepare_pulumi(own / "bin", Path(sys.executable), progress)
    if not is_external():
        kubectl = own / "bin" / "kubectl"
        kubectl.unlink(missing_ok=True)
        kubectl.symlink_to(ensure("kubectl", progress))
    values = variables(folder)
    file = left_file(folder)
    file.write_text("".join(f"{name}={value}\n" for name, value in {**values, "PULUMI_STACK": stack}.items()))
    file.chmod(0o600)
    return values


def left_file(folder: Path) -> Path:
    """Return where `up` leaves a checkout's variables for plain shells."""
    return folder / ".gpuserve" / "env"


def variables(folder: Path) -> dict[str, str]:
    """Return the variables to set; with a cluster of the user's own, only the search path."""
    path = os.pathsep.join([str(folder / ".gpuserve" / "bin"), str(folder / ".venv" / "bin"), os.environ.get("PATH", "")])
    if is_external():
        return {"PATH": path}
    return {
        "PATH": path,
        "KUBECONFIG": str(KUBECONFIG),
        "PULUMI_BACKEND_URL": f"file://{STATE / 'pulumi'}",
        "PULUMI_CONFIG_PASSPHRASE": LOCAL_PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        **unproxied(),
    }


def unproxied() -> dict[str, str]:
    """Return the variables that keep requests to the cluster from a proxy; none where no proxy is set.

    Both spellings say the same: which of them counts differs from program to program.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return {}
    said = (os.environ.get(name, "").split(",") for name in ("NO_PROXY", "no_proxy"))
    hosts = dict.fromkeys([*(host.strip() for hosts in said for host in hosts if host.strip()), *_UNPROXIED])
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))


def keep_temporary_files() -> None:
    """Keep the temporary files of this process, and of all that it starts, in a folder that goes with the cluster.

    The Kubernetes provider writes the kubeconfig that it was given into one and leaves it, and an image build that is killed
    leaves a root file system: neither may outlive `make down`. Not for a shell (`exports`), which outlives the folder.
    """
    _keep_in(TEMPORARY)


@contextmanager
def own_temporary_files(folder: Path) -> Generator[None]:
    """Keep them below a checkout while a run on a cluster of the user's own lasts, and remove them after it.

    What runs left that were killed goes then too, and not before: an engine of theirs may have been at work still.
    """
    place, before = folder / ".gpuserve" / "temporary", os.environ.get("TMPDIR")
    own = place / str(os.getpid())
    _keep_in(own)
    try:
        yield
    finally:
        for left in place.iterdir():
            if left == own or not Path("/proc", left.name).exists():
                shutil.rmtree(left, ignore_errors=True)
        _point_at(before)


def _keep_in(place: Path) -> None:
    place.mkdir(exist_ok=True, parents=True, mode=0o700)
    _point_at(str(place))


def _point_at(place: str | None) -> None:
    if place is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = place
    tempfile.tempdir = None  # it is asked for once only


def exports(folder: Path) -> str:
    """Return shell lines for `eval`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables(folder).items())
