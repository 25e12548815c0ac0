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
