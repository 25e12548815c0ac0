"""What a run would install and build in its midst, ahead of it: no test then waits half an hour for a tool."""

import os

from rich.markup import escape

from gpuserve_embedded import cluster
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.ports import is_root
from gpuserve_embedded.run import environment
from gpuserve_embedded.run.orphans import end_orphans, mark
from gpuserve_embedded.run.steps import Progress, Steps
from gpuserve_embedded.tools import PROGRAMS, ensure_all


def prepare(steps: Steps, *, tests: bool) -> None:
    """Install the cluster's packages and get its tools; does nothing where all is there.

    Args:
        steps: Told of each step.
        tests: Also what only the tests need. A package of theirs that the distribution lacks is named: its tests are skipped.

    Raises:
        ClusterError: The user is not root, or a package of the cluster cannot be installed.
        ToolError: A tool can be neither found nor downloaded nor built.
    """
    if not is_root():
        raise ClusterError(
            "prepare the tests" if tests else "prepare the cluster",
            f"user {os.geteuid()}",
            "packages, containers, bridges and mounts need root",
            "run it as root; `make test-fast` needs no root and no cluster",
        )
    os.environ.update(mark())
    end_orphans(engines=False)
    if tests and environment.is_external():
        steps.console.print(
            f"KUBECONFIG={escape(os.environ['KUBECONFIG'])} is not used: the tests have a cluster of their own."
        )
    with steps.step("Packages of the distribution") as progress:
        lacking = cluster.install(progress, for_tests=tests)
    if lacking:
        steps.console.print(f"      not to be had here: {', '.join(lacking)}. The tests that need them are skipped.")
    with steps.step("Tools: Pulumi, provider, cluster") as progress:
        _tools(progress, tests=tests)


def _tools(progress: Progress, *, tests: bool) -> None:
    cluster.prepare(progress)
    # The language host comes with an official release or not at all, and then this project's own is used.
    ensure_all(
        [program.name for program in PROGRAMS.values() if program.module is not None and (tests or not program.for_tests)],
        progress,
    )
