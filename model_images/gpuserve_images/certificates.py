"""The certificate authorities that a machine trusts, said once for every kind of address.

Each client has a variable of its own: requests reads REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, AWS's tools AWS_CA_BUNDLE, and what loads the
certificates of the system itself, as the clients of buckets and of the Hugging Face Hub do, SSL_CERT_FILE.
"""

import os
from pathlib import Path

import requests

from gpuserve_images.errors import SourceError

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OF_AWS = "AWS_CA_BUNDLE"
_OF_SYSTEM = "SSL_CERT_FILE"


def trust_own(session: requests.Session) -> None:
    """Let a session trust the authorities of SSL_CERT_FILE too; requests' own variables come before it."""
    file = os.environ.get(_OF_SYSTEM)
    if file and Path(file).is_file():
        session.verify = file


def own_authorities(where: str, *, aws: bool) -> bytes | None:
    """Return the certificates, as PEM, that a client of buckets does not find by itself; None where no variable names a file.

    Args:
        where: The address, for messages.
        aws: Whether AWS's own variable counts, too.

    Raises:
        SourceError: When a file cannot be read, or holds no certificate.
    """
    variables = (*_BUNDLES, _OF_AWS) if aws else _BUNDLES
    # A client trusts them besides those of the system, so the order does not matter.
    files = {file: variable for variable in variables if (file := os.environ.get(variable)) and Path(file).is_file()}
    return b"\n".join(_certificates(where, variable, file) for file, variable in files.items()) or None


def blame_authorities(error: OSError) -> tuple[str, str] | None:
    """Return the reason and the fix where requests failed because the variable that it looks at names no certificates, else None.

    For a file that is not there it raises an OSError of no kind of its own.
    """
    own = isinstance(error, requests.RequestException) and not isinstance(error, requests.exceptions.SSLError)
    return None if own else wrong_authorities()


def wrong_authorities(*, of_system: bool = False) -> tuple[str, str] | None:
    """Return the reason and the fix when the variable that a client looks at names no certificates; None when it names some.

    Ask only after a failure: a client without TLS looks at none.

    Args:
        of_system: Whether the client looks at SSL_CERT_FILE alone. Default: requests' own variables come before it.
    """
    variables = (_OF_SYSTEM,) if of_system else (*_BUNDLES, _OF_SYSTEM)
    variable = next((name for name in variables if os.environ.get(name)), None)
    # requests takes a folder, too.
    if variable is None or Path(os.environ[variable]).is_dir():
        return None
    file = os.environ[variable]
    try:
        _certificates("", variable, file)
    except SourceError as error:
        return f"{error.reason}: {file}", error.fix
    return None


def _certificates(where: str, variable: str, file: str) -> bytes:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        reason = f"cannot be reached: {variable} names a file that cannot be read ({error.strerror})"
        raise SourceError(where, reason, f"Correct {variable}.", value=file) from error
    if b"-----BEGIN CERTIFICATE-----" not in content:
        reason = f"cannot be reached: {variable} names a file without certificates in PEM"
        raise SourceError(where, reason, f"Correct {variable}.", value=file)
    return content
