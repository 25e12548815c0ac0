r"""A vectorizer's `token_pattern` as ONNX Runtime has to read it: its `\w` knows ASCII only, and it takes the longest of several ways."""

import re
from collections.abc import Iterator

from gpuserve_images.export.backends.model import FailureError

_CLASSES = {"w": r"\pL\pN_", "d": r"\p{Nd}", "s": r"\t\n\v\f\r\x1c-\x20\x85\pZ"}
r"""What Python's `\w`, `\d` and `\s` are in Unicode, to be written between brackets."""
_LETTERS = {r"[^\W\d_]": r"[\pL\p{Nl}\p{No}]", r"[^\W_]": r"[\pL\pN]", r"[^\W\d]": r"[\pL\p{Nl}\p{No}_]"}
r"""The usual ways to write `\w` without some of it."""
_SAME = "tnrfv"
"""Letters that mean the same control character behind a backslash."""
_RUN = re.compile(r"(?:\\b)?((?:\\w)*)\\w(\+|\{\d+,\})(?:\\b)?")
r"""Whole words: a run of `\w` ends where no other follows, so that `\b` around it says nothing more."""
_ESCAPE = r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
_ATOM = re.compile(
    rf"(?:(?P<set>\[\^?(?:\\.|[^\]\[\\])+\])|{_ESCAPE}|(?P<plain>[^\\\[\](){{}}|^$*+?]))(?P<count>[*+?]|\{{\d+(?:,\d*)?\}})?(?![*+?])",
    re.DOTALL,
)
"""One kind of character, and how many of it. In a row of such the greedy way is the longest one, too."""


def runtime_pattern(pattern: str) -> str:
    r"""Return the pattern that finds the same words in ONNX Runtime (RE2).

    Args:
        pattern: A `token_pattern` of Python.

    Raises:
        FailureError: When it holds what RE2 reads otherwise: groups, alternatives, lazy counts, `\b` around anything but a run of `\w`.
    """
    body = pattern
    while body.startswith("(?u)"):
        body = body.removeprefix("(?u)")
    run = _RUN.fullmatch(body)
    if run:
        least = len(run[1]) // len(r"\w") + (1 if run[2] == "+" else int(run[2][1:-2]))
        if least:
            return f"[{_CLASSES['w']}]{{{least},}}"
    if re.fullmatch(pattern, ""):
        raise _refusal(pattern, "it finds empty words")
    return "".join(_atoms(body, pattern))


def _atoms(body: str, pattern: str) -> Iterator[str]:
    place = 0
    while place < len(body):
        atom = _ATOM.match(body, place)
        if atom is None:
            raise _refusal(pattern, f"{body[place : place + 3]!r} in it is more than kinds of characters and their counts")
        if atom["set"]:
            yield _set(atom["set"], pattern)
        elif atom["plain"]:
            yield atom["plain"]
        else:
            yield _alone(atom[2], pattern)
        yield atom["count"] or ""
        place = atom.end()


def _set(written: str, pattern: str) -> str:
    return _LETTERS.get(written) or re.sub(_ESCAPE, lambda found: _escape(found[1], pattern), written, flags=re.DOTALL)


def _alone(escape: str, pattern: str) -> str:
    if escape.lower() in _CLASSES:
        return f"[{'^' if escape.isupper() else ''}{_CLASSES[escape.lower()]}]"
    return _escape(escape, pattern)


def _escape(escape: str, pattern: str) -> str:
    if escape in _CLASSES:
        return _CLASSES[escape]
    if escape in _SAME:
        return f"\\{escape}"
    if len(escape) > 1:
        return rf"\x{{{escape[1:]}}}"
    if escape.isascii() and escape.isalnum():
        raise _refusal(pattern, rf"'\{escape}' in it has no form there")
    return rf"\x{{{ord(escape):x}}}"


def _refusal(pattern: str, what: str) -> FailureError:
    reason = f"splits texts by a pattern that ONNX Runtime reads otherwise: {what}"
    fix = r"Write kinds of characters in a row, without groups or alternatives, such as '(?u)\b\w+\b' or '[a-zäöüß-]+'."
    return FailureError(reason, fix, value=f"token_pattern={pattern!r}")
