"""The command's root: global options, and the commands, each in a module of its own.

What a command needs beside its options is imported when it is called: the others, and `--help`, do not wait for it.
"""

from typing import Annotated

import typer

from gpuserve.cli import bake, bench, check, compiling, doctor, images, predict, render, schema, status
from gpuserve.cli.environment import adopt_environment
from gpuserve.cli.guard import debug, guarded
from gpuserve_images.ending import end_on_sigterm

app = typer.Typer(
    name="gpuserve",
    help="From a model file to a monitored, autoscaled GPU endpoint. Deploy with `pulumi up -s ENV`; look at it with these.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (render.render, check.check, status.status, predict.predict, schema.schema, doctor.doctor, bench.bench):
    app.command()(guarded(command))
app.command("compile")(guarded(compiling.compile_model))  # `compile` is a function of Python's
app.command()(guarded(bake.bake))
kept = typer.Typer(help="What was built, and what is kept of it.", no_args_is_help=True)
for command in (images.ls, images.report, images.gc, images.pin, images.verify):
    kept.command()(guarded(command))
app.add_typer(kept, name="images")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("gpuserve"))
        raise typer.Exit


@app.callback()
def _global_options(
    show_traceback: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    show_version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show gpuserve's version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    debug.set(show_traceback)
    adopt_environment()


def main() -> None:
    """Run the command line; exit status 0 means done, 1 that something was found wrong, 2 that the command line is wrong."""
    end_on_sigterm()
    app()
