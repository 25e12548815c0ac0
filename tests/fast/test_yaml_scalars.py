"""Bare words of YAML are what Pulumi's engine makes of them: each pair here is what `pulumi config get` of Pulumi 3.259 says of it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from gpuserve.cli.output import to_yaml
from gpuserve.kubernetes.yaml_text import YamlSyntaxError, read_yaml

OCTAL = {
    "010": 8,
    "-010": -8,
    "08": 8,
    "0_17": 15,
    "0o17": 15,
    "0O17": 15,
    "-0o17": -15,
    "+0o1_7": 15,
    "007.5": 7.5,
    "010e2": 1000,
}
OTHER_BASES = {"0x1F": 31, "-0X1f": -31, "0x_1f": 31, "0b11": 3, "-0b1_1": -3}
JOINED = {"1_000": 1000, "1_0.5": 10.5, "1_": 1, "-1_0": -10, "685.230_15e+03": 685230.15, "1_000e3": 1_000_000, ".5_0": 0.5}
DECIMAL = {
    "0": 0,
    "-0": 0,
    "1e3": 1000,
    "-12e-3": -0.012,
    "1.": 1,
    ".5": 0.5,
    "+.5": 0.5,
    "1.0": 1,
    "9007199254740992": 2**53,
    "-9007199254740992": -(2**53),
    "1000000000000000000": 10**18,
    "0x1000000000000000": 2**60,
    "1e18": 10**18,
    "1e19": 10**19,
    "1.1111111111111111e29": 1.111111111111111e29,
}
ROUNDED = [
    "9007199254740993",
    "-9007199254740993",
    "+9_007_199_254_740_993",
    "0x20000000000001",
    "9223372036854775808",
    "18446744073709551615",
    "1" * 30,
    f"1{'0' * 30}",
]
NUMBERS = OCTAL | OTHER_BASES | JOINED | DECIMAL
TEXTS = [
    *[
        "1:30",
        "190:20:30.15",
        "1_:30",
        "_1",
        "._5",
        ".5e",
        "1e",
        "1e400",
        "1" * 5000,
        "0x1p4",
        "0o8",
        "0b2",
        "0x",
        "1,000",
        "1.2.3",
        "=",
        "0o777777777777777777777777",
    ],
    *[
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "tRue",
        "nUll",
        "inf",
        ".iNf",
        "+.nan",
        "٣",
        "2026-13-01",
        "2026-02-30",
        "2026-1",
        "2026-01-01T10:00:00",
        "12345-01-01",
    ],
    "2026-01-01 10:00:00 -5",
]
DATES = ["2026-01-01", "2026-1-1", "2024-02-29", "2026-01-01T10:00:00Z", "2026-01-01 10:00:00", "2026-01-01t1:2:3.5+02:00"]


@pytest.mark.parametrize(("word", "value"), [*NUMBERS.items(), ("true", True), ("FALSE", False), ("Null", None), ("~", None)])
def test_words_are_what_the_engine_makes_of_them(word: str, value: object) -> None:
    found = read_yaml(f"a: {word}\n")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("word", TEXTS)
def test_all_others_are_texts(word: str) -> None:
    assert read_yaml(f"a: {word}\n") == {"a": word}


@pytest.mark.parametrize("word", [*NUMBERS, *DATES, "true", "null", "~", ".inf"])
def test_words_in_quotes_are_texts(word: str) -> None:
    assert read_yaml(f"a: '{word}'\n") == {"a": word}


@pytest.mark.parametrize("word", DATES)
def test_a_date_without_quotes_is_refused(word: str) -> None:
    with pytest.raises(YamlSyntaxError, match="line 2, column 4: is a date without quotes, to which Pulumi") as refused:
        read_yaml(f"b: 1\na: {word}\n")
    assert refused.value.fix == "put it in quotes"


@pytest.mark.parametrize("word", ROUNDED)
def test_a_number_that_would_become_another_one_is_refused(word: str) -> None:
    with pytest.raises(
        YamlSyntaxError, match="line 2, column 4: is a whole number of more digits than Pulumi keeps"
    ) as refused:
        read_yaml(f"b: 1\na: {word}\n")
    assert refused.value.fix.startswith("put it in quotes where it is a text; else write a number up to 2^53")
    assert read_yaml(f"a: '{word}'\n") == {"a": word}
    (written,) = yaml.compose_all(to_yaml([[word]]))
    assert written.value[0].style == "'"


@pytest.mark.parametrize("word", [".inf", "-.INF", "+.Inf", ".nan", ".NaN"])
def test_what_is_no_finite_number_is_left_to_its_field(word: str) -> None:
    """The engine refuses a file with one, as each field with a number does by its name."""
    assert not math.isfinite(read_yaml(f"a: {word}\n")["a"])


@pytest.mark.parametrize("tagged", ["!!int abc", "!!int 1:30", "!!float '1:30'", "!!bool yes", "!!bool maybe"])
def test_a_tag_that_does_not_fit_is_refused(tagged: str) -> None:
    with pytest.raises(YamlSyntaxError, match=r"line 1, column 4: is not what its tag `!!\w+` says"):
        read_yaml(f"a: {tagged}\n")


def test_a_tag_that_fits_is_taken() -> None:
    assert read_yaml("{a: !!int '010', b: !!float 1.5, c: !!str 12, d: !!bool True}") == {
        "a": 8,
        "b": 1.5,
        "c": "12",
        "d": True,
    }


def test_the_stack_file_is_told_where_the_date_is(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.stack_file.write_text("config:\n  gpuserve:platform:\n    registry: 2026-01-01\n")
    said = refusal().strip()
    assert said.startswith(f"{sandbox.stack_file}: (file): is not YAML: line 3, column 15: is a date without quotes")
    assert said.endswith("Fix: put it in quotes")


@pytest.mark.parametrize("word", [*NUMBERS, *DATES, *TEXTS, "true", "no", "~", ".inf"])
def test_texts_that_look_like_others_are_written_in_quotes(word: str) -> None:
    (written,) = yaml.compose_all(to_yaml([[word]]))
    (text,) = written.value
    assert read_yaml(to_yaml([[word]])) == [word]
    assert text.style == "'" or word in TEXTS
