"""What a registry answers to a request without credentials: which ones it takes (RFC 9110, 11.6.1)."""

import re

# A scheme, a parameter, or both; the value of a parameter may be quoted, and hold commas then.
_PART = re.compile(
    r"""(?:(?P<scheme>[A-Za-z][\w-]*)(?!\s*=)(?=[\s,]|$)\s*)?"""
    r"""(?:(?P<name>[A-Za-z_]+)\s*=\s*(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<bare>[^\s,"]+)))?"""
)


def challenges(header: str) -> dict[str, dict[str, str]]:
    """Return the challenges of a `WWW-Authenticate` header: parameters by their name, by scheme, both in small letters.

    A registry that takes several kinds of credentials names them in one header, or in several that arrive as one.
    """
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for part in _PART.finditer(header):
        if part["scheme"]:
            current = found.setdefault(part["scheme"].lower(), {})
        if part["name"]:
            quoted = part["quoted"]
            current[part["name"].lower()] = part["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return found
