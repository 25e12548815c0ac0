"""The command line of the embedded engine."""

import dataclasses
import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gpuserve.cli.guard import debug, guarded
from gpuserve_embedded import cluster
from gpuserve_embedded.run import commands

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The embedded engine: a cluster and Pulumi on a bare machine.",
)
cluster_app = typer.Typer(no_args_is_help=True, help="The embedded Kubernetes cluster.")
app.add_typer(cluster_app, name="cluster")
for command in (commands.up, commands.down, commands.prepare, commands.env):
    app.command()(guarded(command))

_console = Console()


@app.callback()
def _global_options(
    *,
    show_traceback: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
) -> None:
    debug.set(show_traceback)


def start() -> None:
    """Start the cluster; does nothing where it runs."""
    began = time.monotonic()

    def progress(step: str) -> None:
        _console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {step}", highlight=False)

    cluster.start(progress)
    progress(f"the cluster is ready: export KUBECONFIG={cluster.KUBECONFIG}")


def stop(*, purge: Annotated[bool, typer.Option(help="Remove the registry's images too, which are a cache.")] = False) -> None:
    """Stop the cluster and remove everything of it from this machine."""
    cluster.stop(purge=purge)


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print what runs; the exit status is 0 only where the whole cluster is ready."""
    found = cluster.status()
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(found), "ready": found.ready}, default=str, indent=2))
    else:
        _print(found)
    raise typer.Exit(0 if found.ready else 1)


for command in (start, stop, status):
    cluster_app.command()(guarded(command))


def _print(found: cluster.ClusterStatus) -> None:
    table = Table("part", "state", box=None)
    for daemon in found.daemons:
        state = "serves" if daemon.serves else ("does not serve" if daemon.pid else "stopped")
        table.add_row(daemon.name, state)
    for pod in found.pods:
        table.add_row(f"{pod.namespace}/{pod.name}", "ready" if pod.ready else pod.phase)
    _console.print(table)
    _console.print("ready" if found.ready else f"not ready: {found.wanting}", highlight=False, markup=False)
