"""What a quota must hold, in amounts that a quota can be given."""

import re
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("name", "requested_and_fix"),
    [
        ("memory", ("1400M", "4006Mi")),
        ("memory", ("1Gi", "3Gi")),
        ("memory", ("1.5Gi", "4608Mi")),
        ("memory", ("1000000001", "2862Mi")),
        ("cpu", ("1234.5678", "3703.704")),
        ("cpu", ("100m", "0.3")),
        ("cpu", ("500000", "1500000")),
    ],
)
def test_the_amount_that_a_fix_names_is_enough(
    name: str, requested_and_fix: tuple[str, str], sandbox: Any, refusal: Callable[[], str], cli: Callable[..., Any]
) -> None:
    requested, fix = requested_and_fix
    quota = sandbox.platform["pools"][0]["quota"]
    quota[name] = "64Mi" if name == "memory" else "1m"
    sandbox.service["resources"] = {name: requested}
    sandbox.write()
    (said,) = re.findall(r"raise it to at least ([\w.]+)", refusal())
    assert said == fix
    quota[name] = said
    sandbox.write()
    assert cli("check", "-s", "local", "--stacks", sandbox.stacks).exit_code == 0
