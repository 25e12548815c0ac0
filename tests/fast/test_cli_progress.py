"""Progress: silent for quick commands, lines in logs, a bar for people."""

import io
import sys

import pytest

from gpuserve.cli.progress import progress


def test_quick_work_says_nothing(capsys):
    with progress(quiet=60) as tell:
        tell("verify", 1, 2)
    assert capsys.readouterr().err == ""


def test_a_log_gets_one_line_for_each_kind_of_work(capsys):
    with progress(quiet=0) as tell:
        for done in range(3):
            tell("verify", done, 3)
        tell("push", 0, 0)
    assert capsys.readouterr().err == "verify\npush\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_people_see_a_bar_that_goes_away(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress(quiet=0) as tell:
        tell("push", 512, 1024)
    assert "push" in terminal.getvalue()
    assert "50%" in terminal.getvalue()


def interrupted() -> None:
    with progress(quiet=0) as tell:
        tell("push", 0, 0)
        raise KeyboardInterrupt


def test_an_interruption_ends_the_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    # rich refuses a second bar while one is shown.
    with progress(quiet=0) as tell:
        tell("again", 1, 1)
