"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def _environment(stack: str | None) -> str | None:
    """Return the environment of a stack that may be named in full, as Pulumi does: organization/project/stack.

    Raises:
        typer.BadParameter: When a name is given that holds none.
    """
    if stack is None:
        return None
    environment = stack.rpartition("/")[2]
    if not environment.strip():
        raise typer.BadParameter(f"{stack!r} names no environment; write for example --stack dev, or leave it out")
    return environment


_STACK = typer.Option(
    "--stack",
    "-s",
    envvar="PULUMI_STACK",
    help="Environment, as in stacks/Pulumi.ENV.yaml. Default: that of the last `make up` here.",
    metavar="ENV",
    callback=_environment,
)
StackOption = Annotated[str, _STACK]
AnyStackOption = Annotated[str | None, _STACK]
StacksOption = Annotated[Path, typer.Option("--stacks", help="Folder of the stack files.", metavar="DIR")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

STACKS = Path("stacks")
