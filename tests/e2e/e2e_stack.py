"""The stack under test, and copies of the checkout in which a test may write what it likes."""

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from e2e_cluster import ROOT, Cluster, run

from gpuserve_embedded.cluster.layout import registry_data
from gpuserve_embedded.run import environment

_PLACES = "tests"
"""Prefix of the repositories that only tests fill, in the registry of the cluster, whose images outlive it."""


def empty_place(name: str) -> str:
    """Return a prefix for images below which there is none yet."""
    return f"localhost:5000/{_PLACES}/{name}-{time.time_ns():x}"


def forget_places() -> None:
    """Remove the repositories of tests; their layers, which later runs make again, stay in the cache."""
    shutil.rmtree(registry_data() / "docker" / "registry" / "v2" / "repositories" / _PLACES, ignore_errors=True)


def command(name: str, *arguments: str, cwd: Path = ROOT, **options: Any) -> Any:
    """Run `python -m gpuserve_embedded NAME`, which is all that `make` does for it."""
    variables = {"TMPDIR": tempfile.gettempdir(), **options.pop("variables", {})}
    return run([sys.executable, "-m", "gpuserve_embedded", name, *arguments], variables, cwd=cwd, **options)


@dataclass(frozen=True)
class Stack:
    """The running stack.

    Attributes:
        answer: What `up --json` printed.
        cluster: The cluster that it runs on.
        variables: The environment for working by hand.
    """

    answer: dict[str, Any]
    cluster: Cluster
    variables: dict[str, str]

    @property
    def service(self) -> dict[str, Any]:
        return self.answer["services"]["filetype"]

    @property
    def url(self) -> str:
        return self.service["url"]


@dataclass(frozen=True)
class Workshop:
    """A copy of the checkout whose stack and model files a test may change, with a Pulumi backend of its own."""

    folder: Path
    variables: dict[str, str]

    @classmethod
    def below(cls, place: Path) -> Self:
        """Make one in an empty folder: only `stacks/` is copied."""
        folder, backend, temporary = place / "checkout", place / "state", place / "tmp"
        shutil.copytree(ROOT / "stacks", folder / "stacks")
        for name in ("Pulumi.yaml", "__main__.py"):
            shutil.copy(ROOT / name, folder / name)
        for name in (".venv", "policies", "model_images", "embedded", "components", "README.md"):
            (folder / name).symlink_to(ROOT / name)
        backend.mkdir()
        temporary.mkdir()
        own = {"PULUMI_BACKEND_URL": f"file://{backend}", "TMPDIR": str(temporary)}
        return cls(folder, {**environment.variables(ROOT), **own})

    def stack_file(self, name: str) -> Path:
        return self.folder / "stacks" / f"Pulumi.{name}.yaml"

    def write_stack(self, name: str, **changes: Any) -> dict[str, Any]:
        """Write a small stack with a pool and a host of its own; `changes` replace fields of the platform."""
        service = {
            "name": name,
            "model": "filetype",
            "pool": name,
            "versions": [{"build": "fp32", "weight": 100}],
            "traffic": {"host": f"{name}.example.com", "gateway": {"http_port": 8080, "https_port": 8443}},
        }
        platform = {
            "environment": "local",
            "registry": "localhost:5000/models",
            "pools": [{"name": name, "accelerator": "simulated", "gpus": 2, "quota": {"gpus": 2}}],
            "services": [{**service, **changes.pop("service", {})}],
            "monitoring": {"alerts": False, "dashboards": False},
            **changes,
        }
        self.stack_file(name).write_text(yaml.safe_dump({"config": {"gpuserve:platform": platform}}))
        return platform

    def close(self, name: str, cluster: Cluster) -> None:
        """Destroy a stack that nobody asks any more: its pods need not drain, so 10 s and more of waiting for them are saved."""
        cluster.kubectl("scale", "deployments", "--all", "--replicas=0", "-n", f"gpuserve-{name}", check=False)
        cluster.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", "-n", f"gpuserve-{name}", check=False)
        done = self.pulumi("destroy", "--yes", "--skip-preview", "-s", name)
        assert done.returncode == 0, done.stdout + done.stderr

    def pulumi(self, *arguments: str, timeout: float = 300) -> Any:
        command = ["pulumi", "--non-interactive", "--color", "never", *arguments]
        return run(command, self.variables, cwd=self.folder, timeout=timeout)
