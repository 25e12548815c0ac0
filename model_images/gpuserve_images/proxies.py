"""Faults of the proxy that the environment names, told by the variable: its value may hold a password."""

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

_REFUSED = re.compile(r"(?:Tunnel connection failed: |')(\d{3} [A-Za-z ]+)")


class ProxyFault(NamedTuple):
    """What is wrong with a proxy.

    Attributes:
        reason: What happened.
        fix: What to do.
        lasting: Whether another attempt would meet the same.
    """

    reason: str
    fix: str
    lasting: bool


def proxy_fault(error: Exception, scheme: str = "https") -> ProxyFault | None:
    """Return what is wrong with the proxy for a scheme where an error is its fault, of requests or of httpx; else None."""
    variable = _variable(scheme)
    if variable is None:
        return None
    proxy = f"the proxy that {variable} names"
    if "socks" in str(error).lower() and isinstance(error, requests.exceptions.InvalidSchema | ImportError):
        return ProxyFault(
            f"{proxy} speaks SOCKS, which this Python lacks a package for", f"Name an HTTP proxy in {variable}.", True
        )
    if (isinstance(error, ValueError) or type(error).__name__ in {"InvalidURL", "ConnectError"}) and not _is_address(
        os.environ[variable]
    ):
        fix = f"Write {variable} as http://user:password@host:port, with %-signs for : / @ in the password."
        return ProxyFault(f"{proxy} is no address", fix, True)
    if type(error).__name__ == "ProxyError":
        refused = _REFUSED.search(str(error))
        if refused:
            fix = f"Correct the user and password in {variable}, or add the host to NO_PROXY."
            return ProxyFault(f"{proxy} refused the connection ({refused[1].strip()})", fix, True)
        return ProxyFault(f"{proxy} cannot be reached", f"Start it, correct {variable}, or add the host to NO_PROXY.", False)
    return None


def by_way_of_proxy(url: str) -> str:
    """Return words that name the proxy by which an address is asked, to follow a failure whose place is not known; else nothing."""
    variable = _variable(urlsplit(url).scheme)
    if variable is None or requests.utils.should_bypass_proxies(url, None):
        return ""
    return f", by way of the proxy that {variable} names"


def _is_address(value: str) -> bool:
    try:
        return bool(parse_url(value if "://" in value else f"http://{value}").host)
    except LocationParseError:
        return False


def _variable(scheme: str) -> str | None:
    """Return the variable that names the proxy for a scheme; the small one goes first, as in every client."""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), None)
