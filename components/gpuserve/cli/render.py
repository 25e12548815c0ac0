"""`gpuserve render`: the manifests of an environment, for GitOps."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpuserve.cli.options import STACKS, StackOption, StacksOption
from gpuserve.cli.output import notice, to_json, to_yaml, write

if TYPE_CHECKING:
    from gpuserve.cli.stack import Stack


class Format(StrEnum):
    """How manifests are written."""

    YAML = "yaml"
    JSON = "json"


def render(
    stack: StackOption,
    stacks: StacksOption = STACKS,
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - is stdout.", metavar="FILE")] = "-",
    format_: Annotated[Format, typer.Option("--format", help="yaml: one document per object; json: a List.")] = Format.YAML,
    sync_waves: Annotated[
        bool,
        typer.Option(
            "--sync-waves", help="Annotate for Argo CD: servers are ready before routes lead to them, and pruned after that."
        ),
    ] = False,
) -> None:
    """Print every manifest of an environment; nothing is built and no cluster is asked.

    The registry is asked for the measured capacity of services that scale without naming a target, and for nothing else.
    """
    from gpuserve.cli.stack import open_stack

    loaded = open_stack(stack, stacks, measured=True)
    manifests = list(loaded.manifests(waves=sync_waves))
    if format_ is Format.YAML:
        text = to_yaml(manifests)
    else:
        text = to_json({"apiVersion": "v1", "kind": "List", "items": manifests}) + "\n"
    if output == "-":
        typer.echo(text, nl=False)
    else:
        write(Path(output), text)
        notice(f"{output}: {len(manifests)} objects of {stack}")
    for note in _notes(loaded):
        notice(f"note: {note}")


def _notes(stack: "Stack") -> Iterator[str]:
    """Yield what the manifests alone do not do, and what may surprise who applies them."""
    if stack.images:
        yield f"{len(stack.images)} images are named by their content tags; `pulumi up` builds and pushes them and pins digests"
    for name, traffic in stack.plan.traffic.items():
        if traffic.tls.mode == "generated":
            yield f"the certificate of {name!r} is left out: `pulumi up` generates it, and keys do not belong in a repository"
    yield from stack.notes()
