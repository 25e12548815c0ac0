"""What a bare word of YAML is: a number, a date, true, nothing, or a text.

The rules are those of Pulumi's engine (Go's yaml.v3), which reads the stack file for `pulumi up`; `gpuserve check` must see the same. They are
YAML 1.2's, where `no` and `1:30` are texts and `1e3` and `0o17` are numbers, but for what the engine keeps from 1.1 and adds: `010` is 8, `1_000`
is 1000, `0b11` is 3, and `2026-01-01` is a date.
"""

import datetime as dt
import math
import re
from typing import Final

TEXT: Final = "tag:yaml.org,2002:str"
INT: Final = "tag:yaml.org,2002:int"
FLOAT: Final = "tag:yaml.org,2002:float"
BOOL: Final = "tag:yaml.org,2002:bool"
NULL: Final = "tag:yaml.org,2002:null"
MERGE: Final = "tag:yaml.org,2002:merge"
DATE: Final = "tag:yaml.org,2002:timestamp"

BOOLS: Final = {word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())}
_NULLS = {"", "~", "null", "Null", "NULL"}
_NOT_FINITE = {
    **{
        sign + word: math.copysign(math.inf, -1 if sign == "-" else 1)
        for sign in ("", "+", "-")
        for word in (".inf", ".Inf", ".INF")
    },
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}

_WHOLE = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|([1-9][0-9]*|0))")
_BASES = (16, 2, 8, 8, 10)
"""Of the groups of `_WHOLE` behind the sign."""

_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])_(?=[0-9])")
_BITS = range(-(2**63), 2**64)
_SIGNED_BITS = range(-(2**63), 2**63)
"""Beyond these the engine rounds already what it reads from the stack file."""
_MOST_DIGITS = 400
"""A float ends at 309 of them, and what is longer may be more than Python reads."""

_WRITTEN_WHOLE = 1e21
"""Numbers from here on have an exponent in the JSON that the engine gives to programs; those below without a fraction are whole there."""

_DATE = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:[Tt]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2})"
    r"| +([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?)?"
)


def tag_of(word: str) -> str:
    """Return the tag of a word without quotes, such as `INT`."""
    if word in _NULLS:
        return NULL
    if word in BOOLS:
        return BOOL
    if word == "<<":
        return MERGE
    if _is_date(word):
        return DATE
    value = number(word)
    if value is None:
        return TEXT
    return INT if isinstance(value, int) else FLOAT


def number(word: str) -> int | float | None:
    """Return the number that a word is, or None where it is none: also where it has a base but not 64 bits, or is too large for a float.

    One without a fraction is whole, however it is written: the engine hands it on as JSON, which does not tell `2.0` from `2`.
    """
    if word in _NOT_FINITE:
        return _NOT_FINITE[word]
    plain = _without_gaps(word)
    whole = _whole(plain)
    if whole is not None and whole in _BITS:
        return whole
    if not _REAL.fullmatch(plain):
        return None
    real = float(plain)
    if math.isinf(real):
        return None
    return int(real) if real.is_integer() and abs(real) < _WRITTEN_WHOLE else real


def is_rounded(word: str) -> bool:
    """Tell whether a word is a whole number that would become another one on its way: Pulumi hands numbers to resources as doubles.

    One that is written with an exponent says itself that not every digit counts.
    """
    whole = _whole(_without_gaps(word))
    return whole is not None and number(word) is not None and (whole not in _SIGNED_BITS or int(float(whole)) != whole)


def _without_gaps(word: str) -> str:
    return _BETWEEN_DIGITS.sub("", word) if word.startswith(".") else word[:1] + word[1:].replace("_", "")


def _whole(plain: str) -> int | None:
    """Return the whole number that is written in digits of some base; None where something else is, or more than any float has."""
    found = _WHOLE.fullmatch(plain) if len(plain) <= _MOST_DIGITS else None
    if found is None:
        return None
    sign, *digits = found.groups()
    return next(int(sign + some, base) for some, base in zip(digits, _BASES, strict=True) if some)


def _is_date(word: str) -> bool:
    found = _DATE.fullmatch(word)
    if found is None:
        return False
    date, first, second = (
        tuple(int(part) for part in found.group(*places) if part) for places in ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    )
    try:
        # The engine knows a year 0, a leap year; year 4 stands in for it.
        dt.datetime(*(date[0] or 4, *date[1:]), *(first or second), tzinfo=dt.UTC)
    except ValueError:
        return False
    return True
