"""What goes where: results to stdout, everything else to stderr."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.yaml_scalars import TEXT, tag_of

PIPE_WIDTH = 200
"""Columns of a table that no terminal bounds: more than any of ours needs."""

_BORDER = 3
"""Columns between two columns of a table: a line and a space on either side."""

_FOLDED = 20
"""Columns that a name needs, which may be folded, to be read without much trouble."""

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _ManifestDumper(_Dumper):
    """YAML as people write manifests: long text in blocks, no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        """Write shared values out: an anchor in a manifest surprises its reader."""
        return True


def _text(dumper: Any, value: str) -> Any:
    # PyYAML writes YAML 1.1, where 12e4 is a text; Kubernetes' tools read numbers as Pulumi's engine does.
    style = "|" if "\n" in value else None if tag_of(value) == TEXT else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_ManifestDumper.add_representer(str, _text)


def notice(message: str) -> None:
    """Write a line for people to stderr."""
    typer.echo(message, err=True)


def write(path: Path, text: str, option: str = "--output") -> None:
    """Write a file that the user named.

    Args:
        path: Where.
        text: What.
        option: The option that named it.

    Raises:
        SpecError: When it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fix = "name another file, in a folder that is there and may be written to"
        raise SpecError.of(option, str(path), f"cannot be written: {error.strerror}", fix) from error


def stdout() -> Console:
    """Return the console for tables and other results for people.

    In a pipe there is no edge that a table would have to keep to, unless `COLUMNS` says so.
    """
    in_a_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=PIPE_WIDTH if in_a_pipe else None)


def show(table: Table) -> None:
    """Print a table; where the terminal is too narrow for its words, each row as lines of their own."""
    console = stdout()
    for column in table.columns:
        least, most = _widths(console, column)
        # Of columns that may wrap the library shortens the wider ones first, and cuts words where it must not.
        column.no_wrap = column.no_wrap or least == most
    if sum(_widths(console, column)[0] + _BORDER for column in table.columns) < console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title, soft_wrap=True)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        console.print()
        for column, cell in zip(table.columns, row, strict=True):
            name = f"{column.header}: " if column.header else ""
            if cell:
                console.print(f"{name}{cell}", soft_wrap=True)
    console.print()


def _widths(console: Console, column: Column) -> tuple[int, int]:
    """Return how narrow a column may be without a cut word, and how wide it is without a second line."""
    wide = console.options.update_width(PIPE_WIDTH)
    cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
    least, most = max(cell.minimum for cell in cells), max(cell.maximum for cell in cells)
    if column.no_wrap:
        return most, most
    return min(least, _FOLDED) if column.overflow == "fold" else least, most


def to_json(value: object) -> str:
    """Return ``value`` as indented JSON."""
    return json.dumps(value, indent=2, default=str)


def to_yaml(documents: Iterable[Any]) -> str:
    """Return ``documents`` as one YAML stream."""
    return yaml.dump_all(documents, Dumper=_ManifestDumper, sort_keys=False, explicit_start=True, width=120, allow_unicode=True)
