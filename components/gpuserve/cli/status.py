"""`gpuserve status`: is everything ready, and if not, what is in the way."""

from typing import Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from gpuserve.cli.guard import FAILED
from gpuserve.cli.options import STACKS, JsonOption, StackOption, StacksOption
from gpuserve.cli.output import notice, show, stdout, to_json


def status(stack: StackOption, stacks: StacksOption = STACKS, as_json: JsonOption = False) -> None:
    """Show each service's address, the readiness of its parts and what blocks it; exit status 0 only when all is ready."""
    from gpuserve.cli.cluster import connect
    from gpuserve.cli.inspection import services
    from gpuserve.cli.stack import open_stack

    loaded = open_stack(stack, stacks)
    found = services(loaded, connect(chosen=loaded.environment.cluster), _Capacities())
    if as_json:
        typer.echo(to_json({"services": found}))
    else:
        for name, service in found.items():
            _show(name, service)
    if not all(service["ready"] for service in found.values()):
        raise typer.Exit(FAILED)


_EDITED = (
    "edited by hand: `pulumi up --refresh` puts right what the stack declares, and does not see what was added to it until something else "
    "of that object changes; take it out with kubectl"
)


class _Capacities:
    """What images were measured to answer; a registry that cannot be asked is no reason to say nothing about the rest."""

    def __init__(self) -> None:
        self._answers = True

    def __call__(self, image: str) -> dict[str, Any] | None:
        from gpuserve_images.errors import ImageError
        from gpuserve_images.verify.attached import attached_capacity

        if not self._answers:
            return None
        try:
            found = attached_capacity(image)
        except ImageError as error:
            # Once is enough: every further question would wait as long for no answer.
            self._answers = False
            notice(f"measured capacities are not shown: {error}")
            return None
        return found.model_dump(mode="json", exclude={"points", "notes"}) if found else None


def _show(name: str, service: dict[str, Any]) -> None:
    split = ", ".join(f"{version} {weight} %" for version, weight in service["versions"].items())
    address = f"{service['url']} with Host: {service['host']}" if service["url"] else "no address yet"
    table = Table(
        "", "part", Column("object", overflow="fold"), "state", title=f"{name}: {address} ({split})", title_justify="left"
    )
    for part, state in service["parts"].items():
        mark = "[green]ready[/]" if state["ready"] else "[red]waits[/]"
        table.add_row(mark, part, state["object"], escape(state["reason"] or _details(state)))
    show(table)
    console = stdout()
    if any("edited" in state for state in service["parts"].values()):
        console.print(_EDITED, markup=False, soft_wrap=True)
    for version, measured in service["capacity"].items():
        if measured:
            console.print(f"capacity of {version}: {_measured(measured)}", markup=False, soft_wrap=True)
    if service["blocked_by"]:
        blocked = service["blocked_by"]
        console.print(f"blocked by [bold]{escape(blocked['object'])}[/]: {escape(blocked['reason'])}", soft_wrap=True)
    elif service["example"]:
        console.print(f"try: {service['example']}", markup=False, soft_wrap=True)


def _measured(capacity: dict[str, Any]) -> str:
    bound = "" if capacity["latency_p95_ms"] is None else f" with p95 within {capacity['latency_p95_ms']:g} ms"
    rate = capacity["requests_at_slo"]
    most = f"no rate{bound}" if rate is None else f"{rate:,.1f} requests/s{bound}"
    return f"{most} ({capacity['where']})"


def _details(state: dict[str, Any]) -> str:
    shown = {key: value for key, value in state.items() if key not in {"ready", "object", "reason"} and value not in (None, [])}
    if "used" in shown:
        return ", ".join(f"{resource} {shown['used'].get(resource, 0)} of {hard}" for resource, hard in shown["hard"].items())
    return ", ".join(f"{key} {', '.join(value) if isinstance(value, list) else value}" for key, value in shown.items())
