"""Text as tensors of the inference protocol; numbers are sent in test_cli_predict.py."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuserve.cli.inference import InferenceError, decode, encode


@pytest.mark.parametrize(
    "array",
    [
        np.array([["grün", "b"]]),
        np.array([["grün".encode(), b"b"]]),
        np.array([["grün", b"b"]], dtype=object),
        np.array([["grün", "b"]], dtype=np.dtypes.StringDType()),
    ],
    ids=["str", "bytes", "objects", "strings"],
)
def test_text_survives_the_protocol(array: NDArray[Any]) -> None:
    sent = json.loads(json.dumps(encode("x", array)))
    assert sent == {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["grün", "b"]}
    assert decode(sent).tolist() == [["grün", "b"]]


@pytest.mark.parametrize(
    ("value", "words"),
    [(b"\xff", "bytes that are not UTF-8"), (1, "holds int where text"), (None, "holds NoneType where text")],
)
def test_what_is_no_text_is_refused_in_words(value: object, words: str) -> None:
    with pytest.raises(InferenceError, match=rf"input 'x': .*{words}.*Fix: "):
        encode("x", np.array([value], dtype=object))
