"""`gpuserve bench`: how fast a model is, in this process or behind a server, with one caller and with many."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from gpuserve.cli.bench_options import MOST_CALLERS, BenchError, counts, duration
from gpuserve.cli.bench_wish import Wish
from gpuserve.cli.options import JsonOption
from gpuserve.cli.output import notice, stdout, to_json, write
from gpuserve.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpuserve_images.verify.capacity import Capacity
    from gpuserve_images.verify.load_point import LoadPoint
    from gpuserve_images.verify.report import VerifyReport

_FIGURES: "Mapping[str, Callable[[LoadPoint], str]]" = {
    "batch": lambda point: str(point.batch),
    "callers": lambda point: str(point.concurrency),
    "req/s": lambda point: f"{point.requests_per_second:,.1f}",
    "samples/s": lambda point: f"{point.samples_per_second:,.1f}",
    "mean": lambda point: f"{point.mean_ms:,.2f}",
    "median": lambda point: f"{point.median_ms:,.2f}",
    "p95": lambda point: f"{point.p95_ms:,.2f}",
    "p99": lambda point: f"{point.p99_ms:,.2f}",
    "min": lambda point: f"{point.min_ms:,.2f}",
    "max": lambda point: f"{point.max_ms:,.2f}",
    "std": lambda point: f"{point.std_ms:,.2f}",
    "errors": lambda point: str(point.errors),
}
"""Columns of the table, which has 80 characters where requests take some milliseconds."""

_FIRST_LEFT_OUT = ("std", "min", "max", "mean", "p99", "median", "samples/s")
"""In a narrower terminal, in this order."""


def bench(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Model: an ONNX file, or a model's YAML file, whose samples and SLO are then used.", metavar="MODEL"
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="A running server instead of this process (protocol v2).", metavar="URL")] = "",
    model: Annotated[str, typer.Option(help="Name of the model in the server; default the YAML's.", metavar="NAME")] = "",
    host: Annotated[str, typer.Option(help="Host name to send, where a gateway chooses by it.", metavar="HOST")] = "",
    protocol: Annotated[Literal["http", "grpc"], typer.Option(help="How to talk to the server.")] = "http",
    build: Annotated[str, typer.Option(help="Build of the YAML to measure; default its source as it is.", metavar="NAME")] = "",
    concurrency: Annotated[str, typer.Option(help="Callers at the same time; 1 is sequential.", metavar="LIST")] = "1,2,4,8",
    batch: Annotated[str, typer.Option(help="Samples per request.", metavar="LIST")] = "1",
    per_point: Annotated[str, typer.Option("--duration", help="Time to measure each point.", metavar="TIME")] = "3s",
    warm_up: Annotated[str, typer.Option(help="Time before it that does not count.", metavar="TIME")] = "1s",
    slo: Annotated[str, typer.Option(help="Latency that p95 must keep; default the YAML's.", metavar="TIME")] = "",
    threads: Annotated[int, typer.Option(help="In process: threads per operator; 0 means one per core.", min=0)] = 0,
    shape: Annotated[
        list[str] | None, typer.Option(help="Sizes behind the batch axis, of an open one.", metavar="INPUT=N,N")
    ] = None,
    value_range: Annotated[
        list[str] | None, typer.Option("--range", help="Values of a generated input.", metavar="INPUT=LOW:HIGH")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of generated inputs.", min=0)] = 0,
    timeout: Annotated[str, typer.Option(help="Longest wait for one answer of a server.", metavar="TIME")] = "30s",
    html: Annotated[Path | None, typer.Option(help="Write a report for people.", metavar="FILE", dir_okay=False)] = None,
    attach: Annotated[
        str, typer.Option(help="Attach the result to this image, as its measured capacity.", metavar="IMAGE")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure throughput and latency: mean, median, p95, p99, min, max, deviation, and the most that keeps the SLO."""
    from gpuserve.cli.bench_running import measure

    wish = Wish(
        file=file,
        url=url,
        model=model,
        host=host,
        protocol=protocol,
        build=build,
        concurrencies=counts("--concurrency", concurrency, MOST_CALLERS),
        batches=counts("--batch", batch),
        seconds=duration("--duration", per_point).seconds,
        warm_up=duration("--warm-up", warm_up, zero=True).seconds,
        slo=slo,
        threads=threads,
        shapes=tuple(shape or ()),
        ranges=tuple(value_range or ()),
        seed=seed,
        timeout=duration("--timeout", timeout).seconds,
    )
    if html is not None and not html.parent.is_dir():
        raise BenchError(
            "--html", str(html), "lies in a folder that does not exist", f"create {html.parent}, or name another file"
        )
    if attach:
        _require_image(wish, attach)
    with progress() as tell:
        report = measure(wish, tell)
    # First of all: what was measured shall not be lost with a page that cannot be written or a registry that refuses.
    if as_json:
        typer.echo(to_json(report.model_dump(mode="json")))
    else:
        _show(report)
    if html is not None:
        write(html, report.html(), "--html")
    if attach:
        from gpuserve_images.verify.attached import attach_report

        notice(f"attached to {attach} as {attach_report(attach, report)}")


def _require_image(wish: Wish, image: str) -> None:
    """Find out before a long measurement that there is nothing to attach it to, or something else."""
    from gpuserve_images.oci import resolve
    from gpuserve_images.verify.attached import BUILD, require_image_of

    found = resolve(image)
    if found is None:
        raise BenchError("--attach", image, "is not in the registry", "name an image that was pushed, by tag or by digest")
    if name := wish.name():
        require_image_of(found.reference, name, wish.build or None)
    made = found.annotations.get(BUILD)
    if made and not wish.build and not wish.url:
        reason = f"holds build {made}, and what would be measured is its source"
        fix = f"give the model's YAML file and `--build {made}`, or `--url` of a server that runs the image"
        raise BenchError("--attach", image, reason, fix)


def _show(report: "VerifyReport") -> None:
    capacity = report.capacity
    assert capacity is not None  # noqa: S101 - a benchmark always has one
    console = stdout()
    rows = [{name: figure(point) for name, figure in _FIGURES.items()} for point in capacity.points]
    shown = _fitting(rows, console.width)
    table = Table(
        title=f"{report.model}: {capacity.where}", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for heading in shown:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console.print(table)
    if left := [name for name in _FIGURES if name not in shown]:
        console.print(f"no room for {', '.join(left)}: in a wider terminal, or with --json")
    for note in capacity.notes:
        console.print(note, markup=False)
    console.print(f"times in ms; {_most(capacity)}", markup=False)


def _fitting(rows: "Sequence[Mapping[str, str]]", width: int) -> list[str]:
    """Return the figures that have room beside each other: one that is cut off says something else."""
    shown = list(_FIGURES)
    for name in _FIRST_LEFT_OUT:
        if sum(max(len(one), *(len(row[one]) for row in rows)) + 1 for one in shown) <= width:
            break
        shown.remove(name)
    return shown


def _most(capacity: "Capacity") -> str:
    """Say what keeps the bound, or that nothing does."""
    limit = None if capacity.latency_p95_ms is None else f"p95 within {capacity.latency_p95_ms:g} ms"
    if capacity.at_slo is None:
        return f"no point keeps {limit} without errors" if limit else "no point is without errors"
    smallest = min(point.batch for point in capacity.points)
    if capacity.requests_at_slo is None:
        rate = f"no point at batch {smallest} keeps that without errors"
    else:
        rate = f"{capacity.requests_at_slo:,.1f} requests/s at batch {smallest}"
    return f"most with {limit or 'no bound on latency'}: {capacity.at_slo:,.1f} samples/s; {rate}"
