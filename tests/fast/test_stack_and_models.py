"""A stack file and its model files, read together: what is said of which of them."""

from collections.abc import Callable
from typing import Any


def test_a_model_that_is_called_other_than_its_file_is_refused(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.model["name"] = "small"
    sandbox.write()
    fix = "write `name: tiny`, or call the file small.yaml"
    assert refusal().strip() == f"{sandbox.models / 'tiny.yaml'}: name = 'small': is not the file's name. Fix: {fix}"
