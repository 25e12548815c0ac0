"""Tables in terminals of every width: no word of them is ever cut."""

from collections.abc import Callable

import pytest
from rich.table import Column, Table

from gpuserve.cli.output import show

Shown = Callable[[int], list[str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Return the lines of a table in a terminal of so many columns."""

    def lines(width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        table = Table(
            Column("key", no_wrap=True),
            "build",
            "parity",
            Column("object", overflow="fold"),
            Column("size", justify="right"),
            "",
        )
        table.title = "localhost:5000/models/filetype"
        for key in ("a", "b"):
            table.add_row(
                key * 16, "int8-dynamic", "top-1 99.87%, at most 0.012", f"Pod {'x' * 40}", "123.5 MB", "[red]waits[/]"
            )
        show(table)
        return capsys.readouterr().out.splitlines()

    return lines


@pytest.mark.parametrize("width", [*range(10, 130, 7), 200])
def test_no_word_is_cut(shown: Shown, width: int) -> None:
    said = "\n".join(shown(width))
    for word in ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "int8-dynamic", "123.5", "99.87%", "waits", "localhost:5000"):
        assert word in said
    assert said.count("x") == 80, "of what may be folded, too"
    assert "…" not in said


def test_each_row_is_lines_of_its_own_where_a_table_does_not_fit(shown: Shown) -> None:
    assert shown(40) == [
        "localhost:5000/models/filetype",
        *[
            line
            for key in ("a", "b")
            for line in (
                "",
                f"key: {key * 16}",
                "build: int8-dynamic",
                "parity: top-1 99.87%, at most 0.012",
                f"object: Pod {'x' * 40}",
                "size: 123.5 MB",
                "waits",
            )
        ],
        "",
    ]


def test_a_table_stays_one_where_it_fits(shown: Shown) -> None:
    assert any(line.startswith("┏") for line in shown(100))
    assert max(map(len, shown(100))) <= 100
