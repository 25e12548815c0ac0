"""Progress: a line per step with its time, and a bar where it is known how far a step is."""

from io import StringIO

import pytest
from rich.console import Console

from gpuserve_embedded.run.steps import Steps, bar


def test_each_step_is_numbered_and_timed():
    steps = Steps(total=2)
    steps.__dict__["console"] = Console(file=(out := StringIO()), force_terminal=False)
    with steps.step("first"):
        pass
    with pytest.raises(RuntimeError), steps.step("second"):
        raise RuntimeError
    assert "[1/2] first done in 0.0 s" in out.getvalue()
    assert "[2/2] second ..." in out.getvalue()
    assert "second done" not in out.getvalue()
    assert list(steps.seconds) == ["first"]


@pytest.mark.parametrize(("line", "filled"), [("[1/9] building kube", 0), ("[10/20] x", 9), ("[9/9] x", 17)])
def test_a_bar_shows_what_is_done(line, filled):
    assert bar(line).partition("[/green]")[0].count("━") == filled
    assert bar(line).count("━") == 20


def test_other_lines_have_no_bar():
    assert bar("waiting for the system's pods") == ""
