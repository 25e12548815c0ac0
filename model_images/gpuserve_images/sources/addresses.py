"""Addresses of models: what each kind says, and how it is shown without what is secret in it."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("https", "s3", "gs", "hf", "oci", "pvc")
"""Kinds of address, `http` to this machine aside."""

_BY_REVISION = frozenset({"hf", "oci"})
"""Kinds whose addresses name their content themselves; what all others give can change, so a source names its digest."""

HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OCI = re.compile(r"[^@\s]+@sha256:(?P<digest>[0-9a-f]{64})")
_HF = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<path>.+))?", re.ASCII)
# An RFC 1123 name, as Kubernetes asks of a claim.
_CLAIM = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_NAME_BYTES = 255
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f]")
# Query parameters that carry the permission itself: signed URLs of S3, GCS and Azure, and tokens.
_SECRETS = frozenset(
    {
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "x-goog-signature",
        "x-goog-credential",
        "signature",
        "sig",
        "token",
        "access_token",
        "private_token",
        "api_key",
        "apikey",
        "key",
        "password",
    }
)


@dataclass(frozen=True)
class Address:
    """An address taken apart.

    Attributes:
        scheme: One of `SCHEMES`, or `http`.
        text: The address as written.
        place: Host, bucket, Hugging Face repository, image reference, or claim.
        path: Path below the place, without %-codes; empty where it names the place itself.
        revision: Commit of a Hugging Face repository, or the digest of an image's manifest; None for the others.
    """

    scheme: str
    text: str
    place: str
    path: str = ""
    revision: str | None = None

    @property
    def shown(self) -> str:
        """The address for messages."""
        return shown(self.text)

    @property
    def name(self) -> str:
        """Last part of the path, which a single file is called by."""
        return PurePosixPath(self.path).name or self.place.rsplit("/", 1)[-1]

    @property
    def names_content(self) -> bool:
        """Whether the address says by its revision what is there; of others a source must say the digest."""
        return self.scheme in _BY_REVISION


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a file in a folder: of that folder, and of every file system."""
    try:
        return text not in {"", ".", ".."} and len(text.encode()) <= _NAME_BYTES and not _NOT_IN_NAMES.search(text)
    except UnicodeEncodeError:
        # Half of a pair of UTF-16, which JSON can hold.
        return False


def shown(url: str) -> str:
    """Return an address without user, password, query and fragment: each of them may be a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.split("?", 1)[0].split("#", 1)[0]
    rest = rest.split("?", 1)[0].split("#", 1)[0]
    host, slash, path = rest.partition("/")
    if scheme not in {"oci", "hf"}:
        host = host.rsplit("@", 1)[-1]
    return f"{scheme}://{host}{slash}{path}"


def parse(url: str, *, pinned: bool = True) -> Address:
    """Take an address apart.

    Args:
        url: The address.
        pinned: Whether `hf` and `oci` addresses must name a commit or digest.

    Raises:
        ValueError: "reason; fix" when it is no address that a model can be read from, or carries a secret.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if any(ord(character) <= ord(" ") for character in url):
        msg = "is an address with spaces or control characters; write them as %20"
        raise ValueError(msg)
    if scheme in {"https", "http"}:
        return _web(scheme, url)
    if scheme in {"s3", "gs"}:
        return _bucket(scheme, url)
    if scheme == "hf":
        return _hugging_face(url, pinned=pinned)
    if scheme == "oci":
        return _registry(url, pinned=pinned)
    if scheme == "pvc":
        return _claim(url)
    msg = f"has no scheme that models are read from ({shown(url)}); use one of " + ", ".join(f"{known}://" for known in SCHEMES)
    raise ValueError(msg)


def _web(scheme: str, url: str) -> Address:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        # Neither the address nor Python's words on it: a password with a slash is what stands where the port should be.
        msg = "names no host and port that can be asked; write https://host/path/model.onnx, without a user name or password"
        raise ValueError(msg) from None
    if parts.username is not None or parts.password is not None:
        msg = f"carries a user name or password ({shown(url)}); put them into ~/.netrc, which is read for each host"
        raise ValueError(msg)
    secret = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name.lower() in _SECRETS]
    if secret:
        msg = (
            f"carries a secret in its query parameter {secret[0]!r} ({shown(url)}), which would stand in the stack's state; "
            "use the s3:// or gs:// address with your own credentials, or ~/.netrc"
        )
        raise ValueError(msg)
    if scheme == "http" and not this_machine(host):
        msg = f"would be read without encryption ({shown(url)}); write https://"
        raise ValueError(msg)
    if not _is_host(host):
        msg = f"names no host that can be asked ({shown(url)}); write https://host/path/model.onnx"
        raise ValueError(msg)
    if not parts.path.strip("/"):
        msg = f"names no file ({shown(url)}); write https://host/path/model.onnx"
        raise ValueError(msg)
    fix = "put the file where its address ends in its own name"
    above, _, last = parts.path.strip("/").rpartition("/")
    if not is_name(name := unquote(last)):
        msg = f"ends in what is no name of a file ({shown(url)}): {name!r}; {fix}"
        raise ValueError(msg)
    return Address(scheme, url, parts.netloc, f"{above}/{name}" if above else name)


def _is_host(host: str) -> bool:
    """Tell whether a name can be looked up: no part of it is empty or longer than 63 characters (RFC 1035), in other letters neither."""
    try:
        return bool(host) and all(host.removesuffix(".").encode("idna").split(b"."))
    except UnicodeError:
        return False


def this_machine(host: str) -> bool:
    """Tell whether a host is this machine, where nobody reads along and no proxy can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bucket(scheme: str, url: str) -> Address:
    bucket, _, key = url.split("://", 1)[1].partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", bucket):
        msg = f"names no bucket; write {scheme}://bucket/path/model.onnx"
        raise ValueError(msg)
    fix = f"write {scheme}://{bucket}/path/model.onnx, or a folder of objects"
    return Address(scheme, url, bucket, _path(key, f"names no object of bucket {bucket!r}", fix))


def _hugging_face(url: str, *, pinned: bool) -> Address:
    match = _HF.fullmatch(url.split("://", 1)[1].rstrip("/"))
    reason, fix = "names no repository of models", "write hf://owner/name@<commit> or hf://owner/name@<commit>/path"
    if match is None:
        msg = f"{reason}; {fix}"
        raise ValueError(msg)
    path = _path(match["path"], reason, fix) if match["path"] else ""
    if pinned and not _COMMIT.fullmatch(match["revision"] or ""):
        msg = (
            f"is not pinned: {match['revision'] or 'its default branch'!r} changes with every push; name the commit by its 40 "
            "hex digits: hf://owner/name@<commit> (`gpuserve images pin` prints it)"
        )
        raise ValueError(msg)
    return Address("hf", url, match["repository"], path, match["revision"])


def _registry(url: str, *, pinned: bool) -> Address:
    reference = url.split("://", 1)[1]
    match = _OCI.fullmatch(reference)
    if pinned and match is None:
        msg = "is not pinned; write oci://registry/repository@sha256:<64 hex digits> (`gpuserve images pin` prints it)"
        raise ValueError(msg)
    return Address("oci", url, reference, "", match["digest"] if match else None)


def _claim(url: str) -> Address:
    claim, _, path = url.split("://", 1)[1].partition("/")
    if not _CLAIM.fullmatch(claim):
        msg = "names no PersistentVolumeClaim; write pvc://claim/path/model.onnx"
        raise ValueError(msg)
    path = _path(path, f"names no file of claim {claim!r}", f"write pvc://{claim}/path/model.onnx")
    return Address("pvc", url, claim, path.removesuffix("/"))


def _path(written: str, reason: str, fix: str) -> str:
    """Return a path below a place without its %-codes; that of a folder may end in a slash.

    Raises:
        ValueError: When it is empty, or a part of it is no name: clients would ask for something else.
    """
    try:
        path = unquote(written, errors="strict")
    except UnicodeDecodeError as error:
        msg = f"{reason}: its %-codes are no UTF-8; {fix}"
        raise ValueError(msg) from error
    if not path.strip("/"):
        msg = f"{reason}; {fix}"
        raise ValueError(msg)
    wrong = next((part for part in path.removesuffix("/").split("/") if not is_name(part)), None)
    if wrong is not None:
        msg = f"{reason}: a part of its path is {repr(wrong) if wrong else 'empty'}, which is no name; {fix}"
        raise ValueError(msg)
    return path
