"""How long a server that refuses for now asks to be left alone."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def asked_wait(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3); None where it says neither."""
    if not header:
        return None
    if header.isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
