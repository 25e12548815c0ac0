"""`gpuserve images`: what was built and what is kept of it; `ls`, `report`, `gc`, `pin` and `verify`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.table import Column, Table

from gpuserve.cli.options import STACKS, JsonOption
from gpuserve.cli.output import notice, show, to_json, write
from gpuserve.cli.progress import progress
from gpuserve.kubernetes.errors import SpecError

if TYPE_CHECKING:
    from gpuserve.kubernetes.units import Quantity
    from gpuserve_images.pipeline.inventory import Inventory, Removal
    from gpuserve_images.pipeline.listing import ListedImage
    from gpuserve_images.pipeline.store import Entry

LONGEST_AGE = 100 * 365 * 86400
"""Seconds; nothing here is older, and no calendar has dates that are millions of years back."""

DEFAULT_AGE = "30d"


def ls(
    repository: Annotated[
        str | None,
        typer.Argument(
            help="A model's repository, such as localhost:5000/models/filetype, or one image of it by tag or digest; default this machine.",
            metavar="REPOSITORY",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List a model's images in a registry; or what this machine keeps: finished stages, downloads, and images built here."""
    if repository is not None:
        from gpuserve_images.pipeline.listing import images_of

        found = images_of(repository)
        typer.echo(to_json([image.model_dump(mode="json") for image in found])) if as_json else _show_images(repository, found)
        return
    from gpuserve_images.pipeline.inventory import inventory
    from gpuserve_images.pipeline.store import cache_folder
    from gpuserve_images.sources.cache import cache_folder as source_folder

    root = cache_folder()
    kept = inventory(root, source_folder())
    if as_json:
        typer.echo(to_json(_plain(kept, root)))
    else:
        _show_kept(kept, root)


def gc(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    older_than: Annotated[
        str,
        typer.Option(help="Remove what no build has used for so long; default 30d, when nothing else is said.", metavar="TIME"),
    ] = "",
    keep: Annotated[str, typer.Option(help="Remove what was used longest ago, until so much is left.", metavar="SIZE")] = "",
    unreferenced: Annotated[bool, typer.Option(help="Remove the stages that no stack file needs.")] = False,
    stacks: Annotated[Path, typer.Option(help="Folder of the stack files, for --unreferenced.", metavar="DIR")] = STACKS,
    dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove kept stages and downloads; never what a running build holds. What is named by any option goes."""
    from gpuserve.kubernetes.units import Bytes, Duration
    from gpuserve_images.pipeline.inventory import Wanted, collect
    from gpuserve_images.pipeline.store import cache_folder
    from gpuserve_images.sources.cache import cache_folder as source_folder

    age = _quantity(Duration, "--older-than", older_than or ("" if keep or unreferenced else DEFAULT_AGE), DEFAULT_AGE)
    size = _quantity(Bytes, "--keep", keep, "20Gi")
    wanted = Wanted(
        unused_for=timedelta(seconds=min(age.amount, LONGEST_AGE)) if age else None,
        keep_bytes=round(size.amount) if size else None,
        needed=_needed(stacks) if unreferenced else None,
    )
    with progress() as tell:
        tell("collecting", 0, 0)
        removals = collect(cache_folder(), source_folder(), wanted, dry_run=dry_run)
    freed = sum(removal.entry.bytes for removal in removals if not removal.held)
    if as_json:
        gone = [_entry(removal.entry) | {"reason": removal.reason, "held": removal.held} for removal in removals]
        typer.echo(to_json({"freed_bytes": freed, "dry_run": dry_run, "removed": gone}))
        return
    _show_removals(removals)
    typer.echo(f"{_megabytes(freed)} {'would be' if dry_run else 'were'} freed")


def pin(
    url: Annotated[str, typer.Argument(help="Address of a model: https, s3, gs, hf, oci or pvc.", metavar="URL")],
    as_json: JsonOption = False,
) -> None:
    """Read an address once, and print the `source:` that pins what it holds now."""
    from gpuserve_images.sources.pinning import pin as read

    with progress() as tell:
        found = read(url, progress=tell)
    if as_json:
        typer.echo(to_json({**found.source, "size": found.size}))
    else:
        typer.echo(yaml.safe_dump({"source": found.source}, sort_keys=False, width=1000), nl=False)


def verify(
    image: Annotated[str, typer.Argument(help="The image, by digest or tag.", metavar="REFERENCE")],
    key: Annotated[str, typer.Option(help="Public key: a file such as cosign.pub, or env://NAME.", metavar="KEY")],
    as_json: JsonOption = False,
) -> None:
    """Check that an image is signed by a key."""
    from dataclasses import asdict

    from gpuserve_images.oci import verify_signature

    signature = verify_signature(image, key)
    if as_json:
        typer.echo(to_json(asdict(signature)))
    else:
        typer.echo(f"{image}: {signature.digest} is signed by this key")


def report(
    image: Annotated[str, typer.Argument(help="The image, by digest or tag.", metavar="REFERENCE")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the page for people.", metavar="FILE", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was measured about an image: differences from its source, and speed; from the report that is attached to it."""
    from gpuserve_images.oci import resolve
    from gpuserve_images.verify.attached import attached_report

    # Reports outlive their image until the registry's garbage is collected.
    if resolve(image) is None:
        raise SpecError.of("REFERENCE", image, "is not in its registry", "list its repository: `gpuserve images ls`")
    found = attached_report(image)
    if found is None:
        fix = "name an image that gpuserve built, or measure it: `gpuserve bench --attach`"
        raise SpecError.of("REFERENCE", image, "has no report", fix)
    if output is not None:
        write(output, found.html())
        notice(f"{output}: written")
    if as_json:
        typer.echo(to_json(found.model_dump(mode="json")))
    elif output is None:
        typer.echo(yaml.safe_dump(found.model_dump(mode="json", exclude={"capacity": {"points"}}), sort_keys=False), nl=False)


def _quantity(kind: "type[Quantity]", option: str, text: str, example: str) -> "Quantity | None":
    if not text:
        return None
    try:
        return kind(text)
    except ValueError as error:
        reason = str(error).partition("; ")[0]
        # Not some length of time: who does as the message says keeps what the command says it keeps.
        raise SpecError.of(option, text, reason, f"write for example {option} {kind.meant(text, example)}") from error


def _needed(stacks: Path) -> set[str]:
    """Return the keys of the stages of every build that the stack files name."""
    from gpuserve.platform.compose import image_requests
    from gpuserve.platform.load import load_stack, stack_names
    from gpuserve_images.pipeline.chain import plan
    from gpuserve_images.pipeline.job import Job

    names = stack_names(stacks)
    if not names:
        raise SpecError.of("--stacks", str(stacks), "has no stack file", "name a folder with Pulumi.ENV.yaml files")
    needed: set[str] = set()
    for name in names:
        environment = load_stack(name, stacks)
        for request in image_requests(environment.platform):
            job = Job(environment.models[request.model], request.build, environment.folder, request.target)
            needed |= plan(job).stages().keys()
    return needed


def _show_images(repository: str, images: "list[ListedImage]") -> None:
    if not images:
        typer.echo(f"{repository}: no images of gpuserve's")
        return
    table = Table(
        Column("key", no_wrap=True),
        "build",
        "parity",
        Column("requests/s at SLO", justify="right"),
        Column("size", justify="right"),
        "age",
        title=repository,
        title_justify="left",
    )
    for image in images:
        size = _megabytes(image.bytes)
        table.add_row(image.tag[:16], image.summary.build, _parity(image), _capacity(image), size, _age(image.created))
    show(table)


def _parity(image: "ListedImage") -> str:
    parity = image.summary.parity
    if parity is None:
        return "as it is"
    agreement = "" if parity.top1_agreement is None else f"top-1 {parity.top1_agreement:.2%}, "
    return f"{agreement}at most {parity.max_abs_error:.2g}"


def _capacity(image: "ListedImage") -> str:
    rate = image.capacity.requests_at_slo if image.capacity else None
    return "" if image.capacity is None else "none" if rate is None else f"{rate:,.1f}"


def _show_kept(kept: "Inventory", root: Path) -> None:
    entries = (*kept.stages, *kept.sources)
    table = Table("what", "key", Column("size", justify="right"), "used", title=str(root), title_justify="left")
    for entry in sorted(entries, key=lambda entry: entry.used, reverse=True):
        table.add_row(entry.stage, entry.key[:16], _megabytes(entry.bytes), _age(entry.used))
    show(table)
    typer.echo(f"{len(entries)} kept, {_megabytes(sum(entry.bytes for entry in entries))}")
    for made, report in kept.builds:
        typer.echo(f"{report.summary.model} {report.summary.build}: {report.tag}, built {_age(made)} ago")


def _show_removals(removals: "list[Removal]") -> None:
    for removal in removals:
        entry = removal.entry
        stays = " (stays: a build is at work with it)" if removal.held else ""
        notice(f"{entry.stage} {entry.key[:16]}, {_megabytes(entry.bytes)}: {removal.reason}{stays}")


def _plain(kept: "Inventory", root: Path) -> dict[str, Any]:
    return {
        "folder": str(root),
        "stages": [_entry(entry) for entry in kept.stages],
        "sources": [_entry(entry) for entry in kept.sources],
        "builds": [
            {
                "model": report.summary.model,
                "build": report.summary.build,
                "key": report.summary.key,
                "reference": report.reference,
                "tag": report.tag,
                "built": made.isoformat(timespec="seconds"),
            }
            for made, report in kept.builds
        ],
    }


def _entry(entry: "Entry") -> dict[str, Any]:
    return {"stage": entry.stage, "key": entry.key, "bytes": entry.bytes, "used": entry.used.isoformat(timespec="seconds")}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _age(then: datetime | None) -> str:
    if then is None:
        return "-"
    seconds = max(0, (datetime.now(UTC) - then).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
