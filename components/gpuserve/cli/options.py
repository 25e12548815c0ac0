"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

StackOption = Annotated[str, typer.Option("--stack", "-s", help="Environment, as in stacks/Pulumi.ENV.yaml.", metavar="ENV")]
StacksOption = Annotated[Path, typer.Option("--stacks", help="Folder of the stack files.", metavar="DIR")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

STACKS = Path("stacks")
