"""The commands behind `make up` and `make down`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gpuserve_embedded.run import environment, report
from gpuserve_embedded.run.down import down as run_down
from gpuserve_embedded.run.prepare import prepare as run_prepare
from gpuserve_embedded.run.steps import Steps
from gpuserve_embedded.run.up import up as run_up

_UP_STEPS = 6
_PREPARE_STEPS = 2

Stack = Annotated[str, typer.Option("--stack", "-s", help="Stack: the file stacks/Pulumi.<stack>.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; progress goes to standard error.")]


def up(
    stack: Stack = "local",
    file: Annotated[
        Path, typer.Option("--file", "-f", help="File to send to the first service.", exists=True, dir_okay=False)
    ] = Path("README.md"),
    json: Json = False,
) -> None:
    """Everything: tools, cluster, base image, `pulumi up`, and a real prediction at the end."""
    steps = Steps(total=_UP_STEPS, stderr=json)
    answer = run_up(stack, file, steps)
    if json:
        typer.echo(report.as_json(answer))
    else:
        report.show(steps.console, answer, _python())


def down(stack: Stack = "local") -> None:
    """Leave nothing behind; caches outside the checkout stay."""
    run_down(stack, Steps(total=1))


def prepare(*, tests: Annotated[bool, typer.Option("--tests", help="Also what only the tests need.")] = False) -> None:
    """Packages and tools of the cluster, before they are needed; starts nothing."""
    run_prepare(Steps(total=_PREPARE_STEPS), tests=tests)


def env() -> None:
    """Print the shell variables with which `pulumi` and `kubectl` work by hand: eval "$(... env)"."""
    typer.echo(environment.exports(environment.checkout()))


def _python() -> str:
    """Return the interpreter as a user would type it here."""
    return os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
