"""Where a plain value must stand, an Output is refused in words, and never asked for its text: that may be a secret."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from e2e_event_loop import leave_nothing_on

from gpuserve.kubernetes.errors import SpecError
from gpuserve.node_pool.spec import NodePoolSpec
from gpuserve.serving.spec import ServingSpec
from gpuserve.traffic.spec import TrafficSpec

POOL = {"name": "a", "accelerator": "A10", "gpus": 1, "quota": {"gpus": 1}}
TRAFFIC = {"service": "a", "namespace": "b", "host": "a.example.com"}


def refused(spec: Callable[[Any], Any], **values: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        spec(values)
    return str(caught.value).splitlines()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An Output of a secret, which raises where somebody asks for its text."""
    monkeypatch.setenv("PULUMI_ERROR_OUTPUT_STRING", "true")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield pulumi.Output.secret("hunter2")
    leave_nothing_on(loop, cancel=True)


@pytest.mark.parametrize(
    ("spec", "known", "field"),
    [
        (NodePoolSpec.parse, POOL, "accelerator"),
        (NodePoolSpec.parse, POOL, "labels"),
        (NodePoolSpec.parse, POOL, "nodes"),
        (NodePoolSpec.parse, POOL, "quota"),
        (TrafficSpec.parse, TRAFFIC, "tls"),
        (TrafficSpec.parse, TRAFFIC, "split"),
        (ServingSpec.parse, {}, "placement"),
    ],
)
def test_an_output_in_a_structural_place_is_named(spec: Any, known: dict[str, Any], field: str, later: Any) -> None:
    (line,) = [found for found in refused(spec, **{**known, field: later}) if found.startswith(f"{field}: ")]
    assert line.startswith(f"{field}: is a Pulumi Output, but ")
    assert "must be known at plan time. Fix: pass a plain value" in line


def test_an_output_among_labels_is_named(later: Any) -> None:
    (line,) = refused(NodePoolSpec.parse, **POOL, labels={"team": later})
    assert line.startswith("labels.team: is a Pulumi Output, but must be known at plan time. Fix: ")


@pytest.mark.parametrize("value", [lambda later: later, lambda later: {"a": [later]}])
def test_an_output_in_an_unknown_field_is_not_asked_for_its_text(value: Any, later: Any) -> None:
    (line,) = refused(NodePoolSpec.parse, **POOL, labls=value(later))
    assert "a Pulumi Output" in line
    assert "did you mean 'labels'?" in line


@pytest.mark.parametrize(
    ("value", "text"), [(True, '"true"'), (5, '"5"'), (1.5, '"1.5"')]
)  # fmt: skip
def test_a_label_that_is_no_text_is_to_be_quoted(value: object, text: str) -> None:
    (line,) = refused(NodePoolSpec.parse, **POOL, node_selector={"gpu": value})
    assert line == f"node_selector.gpu = {value!r}: is no text. Fix: write it in quotes: {text}"
