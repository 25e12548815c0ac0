"""The README's block of commands in one shell, as somebody pastes it. (What else it shows: `tests/pulumi/test_readme.py`.)"""

import re
from itertools import takewhile

import pytest
from e2e_cluster import ROOT, Cluster, run
from e2e_stack import Stack

from gpuserve.platform.load import stack_names

pytestmark = pytest.mark.e2e

INSTALLED = 'make() { command make --old-file=.venv/.installed "$@"; }\n'
"""`make` without what it does first, if need be: these tests run in that virtual environment."""


def pasted() -> str:
    """Return the block that begins with a file to ask about."""
    readme = (ROOT / "README.md").read_text()
    lines = readme[readme.index("    make up FILE=") :].splitlines()
    return "".join(f"{line.strip()}\n" for line in takewhile(lambda line: line.startswith("    "), lines))


def test_the_commands_work_when_pasted_and_change_nothing(stack: Stack, quiet: Cluster):
    commands = pasted()
    assert commands.startswith("make up FILE=/usr/bin/env")
    for name in (
        "gpuserve_embedded env",
        "pulumi preview",
        "gpuserve status",
        "gpuserve predict",
        "gpuserve render",
        "gpuserve check",
    ):
        assert name in commands
    done = run(["bash", "-e", "-c", INSTALLED + commands], {"MAKEFLAGS": ""}, timeout=300)
    said = done.stdout
    assert done.returncode == 0, f"{said[-3000:]}\n{done.stderr[-3000:]}"
    assert "/usr/bin/env -> elf " in said
    assert re.search(r"^Makefile: \w+", said, flags=re.MULTILINE)
    assert not re.search(r"\d+ to (create|update|delete|replace)", said)
    assert re.search(r"^ *kind: HTTPRoute", said, flags=re.MULTILINE)
    for name in stack_names(ROOT / "stacks"):
        assert re.search(rf"^{name}: \d+ objects, all rules hold", said, flags=re.MULTILINE), said[-1000:]
