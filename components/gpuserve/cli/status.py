"""`gpuserve status`: is everything ready, and if not, what is in the way."""

from typing import Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from gpuserve.cli.guard import FAILED
from gpuserve.cli.options import STACKS, JsonOption, StackOption, StacksOption
from gpuserve.cli.output import stdout, to_json


def status(stack: StackOption, stacks: StacksOption = STACKS, as_json: JsonOption = False) -> None:
    """Show each service's address, the readiness of its parts and what blocks it; exit status 0 only when all is ready."""
    from gpuserve.cli.cluster import connect
    from gpuserve.cli.inspection import services
    from gpuserve.cli.stack import open_stack

    found = services(open_stack(stack, stacks), connect())
    if as_json:
        typer.echo(to_json({"services": found}))
    else:
        for name, service in found.items():
            _show(name, service)
    if not all(service["ready"] for service in found.values()):
        raise typer.Exit(FAILED)


def _show(name: str, service: dict[str, Any]) -> None:
    split = ", ".join(f"{version} {weight} %" for version, weight in service["versions"].items())
    address = f"{service['url']} with Host: {service['host']}" if service["url"] else "no address yet"
    table = Table(
        "", "part", Column("object", overflow="fold"), "state", title=f"{name}: {address} ({split})", title_justify="left"
    )
    for part, state in service["parts"].items():
        mark = "[green]ready[/]" if state["ready"] else "[red]waits[/]"
        table.add_row(mark, part, state["object"], escape(state["reason"] or _details(state)))
    console = stdout()
    console.print(table)
    if service["blocked_by"]:
        blocked = service["blocked_by"]
        console.print(f"blocked by [bold]{escape(blocked['object'])}[/]: {escape(blocked['reason'])}", soft_wrap=True)
    elif service["example"]:
        console.print(f"try: {service['example']}", markup=False, soft_wrap=True)


def _details(state: dict[str, Any]) -> str:
    shown = {key: value for key, value in state.items() if key not in {"ready", "object", "reason"} and value not in (None, [])}
    if "used" in shown:
        return ", ".join(f"{resource} {shown['used'].get(resource, 0)} of {hard}" for resource, hard in shown["hard"].items())
    return ", ".join(f"{key} {', '.join(value) if isinstance(value, list) else value}" for key, value in shown.items())
