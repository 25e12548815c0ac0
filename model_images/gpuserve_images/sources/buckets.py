"""`s3` and `gs` addresses, read through obstore: credentials from the variables and files of AWS and Google."""

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from gpuserve_images.certificates import own_authorities
from gpuserve_images.errors import SourceError
from gpuserve_images.sources.addresses import Address, this_machine
from gpuserve_images.sources.aws import aws_settings
from gpuserve_images.sources.remote import CHUNK_BYTES, HiccupError, Listing, Reading, RemoteFile

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

_BLOCK_BYTES = 32 * 2**20
# Seconds for one block; slower lines than 100 kB/s are cut, and go on with what they have.
_BLOCK_SECONDS = 300
# The texts of object_store (Rust), which has no other form of them.
_STATUS = re.compile(r"status code: (\d{3})")
_NO_STORE = re.compile(r"header (?:missing|not present)|invalid list response", re.IGNORECASE)
_NO_PATH = re.compile(r'object with invalid path: Path "(?P<key>[^"]*)"')
_UNTRUSTED = re.compile(r"InvalidCertificate\(\s*(?P<why>\w+)")
_NO_TLS = "InvalidContentType"
_NO_HOST = "dns error"
_NO_CREDENTIALS = ("/latest/api/token", "/latest/meta-data", "computeMetadata", "metadata.google", "169.254.")
_NOT_FOUND, _TOO_MANY, _SERVER_FAILED = 404, 429, 500
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of ~/.aws that may read the bucket.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth application-default login`.",
}


class _NoCredentialsError(SourceError):
    """There are no credentials on this machine."""


class Bucket:
    """An object, or all objects below a prefix."""

    def __init__(self, address: Address) -> None:
        """Connect to nothing yet.

        Raises:
            SourceError: When obstore is not installed.
        """
        try:
            import obstore
        except ImportError as error:
            reason = f"needs a package that is not installed ({error.name})"
            raise SourceError(address.shown, reason, "Install it: pip install 'gpuserve[sources]'") from error
        self._obstore = obstore
        self._address = address
        self._store = _open_store(address)
        # The ETag of each object that has no digest, from its first block on.
        self._versions: dict[str, str | None] = {}

    def listing(self) -> Listing:
        """Return the object of that key, or those below it."""
        try:
            return self._listing()
        except _NoCredentialsError:
            # The bucket may be public.
            self._store = _open_store(self._address, anonymous=True)
            return self._listing()

    def _listing(self) -> Listing:
        key = self._address.path
        if not key.endswith("/"):
            try:
                with self._answers():
                    found = self._obstore.head(self._store, key)
            except FileNotFoundError:
                pass
            else:
                return Listing((RemoteFile(self._address.name, key, int(found["size"])),), folder=False)
        prefix = key.rstrip("/") + "/"
        with self._answers():
            pages = list(self._obstore.list(self._store, prefix=prefix))
        objects = [entry for page in pages for entry in page if not str(entry["path"]).endswith("/")]
        files = tuple(
            RemoteFile(str(entry["path"])[len(prefix) :], str(entry["path"]), int(entry["size"])) for entry in objects
        )
        # Some consoles make an empty object of a folder's own name.
        files = tuple(file for file in files if file.path)
        if not files:
            raise self._absent()
        return Listing(files, folder=True)

    @contextmanager
    def read(self, file: RemoteFile, start: int) -> Generator[Reading]:
        """Open an object from a byte on."""
        size = file.size or 0
        yield Reading(start, size, self._blocks(file, start, size))

    def _blocks(self, file: RemoteFile, start: int, size: int) -> Iterator[bytes]:
        key = file.where
        while start < size:
            end = min(start + _BLOCK_BYTES, size)
            try:
                with self._answers():
                    answer = self._obstore.get(self._store, key, options={"range": (start, end)})
                    version = answer.meta["e_tag"]
                    other = self._versions.setdefault(key, version) != version or answer.meta["size"] != size
                    if file.digest is None and other:
                        raise self._changed(file)
                    for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                        start += len(chunk)
                        yield bytes(chunk)
            except FileNotFoundError as error:
                raise self._absent() from error
            if start < end:
                raise HiccupError(f"it sent bytes up to {start}, and {end} was asked for")

    @contextmanager
    def _answers(self) -> Generator[None]:
        """Turn the client's errors into ours; a missing object stays what it is."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        where, scheme = self._address.shown, self._address.scheme
        try:
            yield
        except UnauthenticatedError as error:
            raise SourceError(where, "wants other credentials", _CREDENTIALS[scheme], value="HTTP 401") from error
        except PermissionDeniedError as error:
            raise SourceError(
                where, "may not be read with these credentials", _CREDENTIALS[scheme], value="HTTP 403"
            ) from error
        except BaseError as error:
            raise self._meaning(str(error)) from error

    def _meaning(self, text: str) -> Exception:
        """Return what an error says; never its text, which may quote an answer or an address with a secret in it."""
        where = self._address.shown
        if any(mark in text for mark in _NO_CREDENTIALS):
            return _NoCredentialsError(where, "has no credentials to be read with", _CREDENTIALS[self._address.scheme])
        if "incorrectly configured region" in text:
            return SourceError(where, "lies in another region", "Set AWS_REGION to the bucket's region.", value="HTTP 301")
        match = _STATUS.search(text)
        if match is None:
            return self._unanswered(text)
        status = int(match[1])
        if status == _NOT_FOUND:
            return self._absent()
        if status == _TOO_MANY or status >= _SERVER_FAILED:
            return HiccupError(f"HTTP {status}: the store failed")
        return SourceError(where, "was refused", "See the store's log.", value=f"HTTP {status}")

    def _unanswered(self, text: str) -> Exception:
        """Return what an error says that is no status of the store's."""
        where = self._address.shown
        if untrusted := _UNTRUSTED.search(text):
            reason = "the TLS certificate of its store, or of a proxy before it, is not trusted"
            fix = "Set REQUESTS_CA_BUNDLE to the file of its certificate authority."
            return SourceError(where, reason, fix, value=untrusted["why"])
        if _NO_TLS in text:
            return SourceError(where, "is asked for with TLS, and its endpoint speaks none", "Write http:// in its endpoint.")
        if _NO_HOST in text:
            return SourceError(where, "its host name does not resolve", "Correct the endpoint, or look at the network.")
        if named := _NO_PATH.search(text):
            reason = "has an object whose key is no path of a file"
            return SourceError(where, reason, "Name a folder without it, or remove it.", value=named["key"])
        if _NO_STORE.search(text):
            return SourceError(where, "answers as no object store does", "See what answers at the endpoint: a proxy?")
        return HiccupError("the connection failed or was cut")

    def _changed(self, file: RemoteFile) -> SourceError:
        reason = "changed while it was read"
        return SourceError(self._address.shown, reason, "Run again when it is written.", value=file.path)

    def _absent(self) -> SourceError:
        reason = "does not exist: there is no such object, and none below it"
        return SourceError(self._address.shown, reason, "Correct the bucket or the key.")


def _open_store(address: Address, *, anonymous: bool = False) -> "S3Store | GCSStore":
    from obstore.store import GCSStore, S3Store

    # One attempt: what is tried again is continued where it was cut, which the client's own attempts do not.
    retry: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=_BLOCK_SECONDS)}
    client: Any = {"timeout": timedelta(seconds=_BLOCK_SECONDS), "connect_timeout": timedelta(seconds=10)}
    if authorities := own_authorities(address.shown, aws=address.scheme == "s3"):
        client["root_certificate"] = authorities
    if address.scheme == "s3":
        settings: Any = aws_settings(os.environ, address.shown)
        if anonymous:
            settings["skip_signature"] = True
        client |= _reached(str(settings.get("endpoint", "")))
        return S3Store(address.place, config=settings, client_options=client, retry_config=retry)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        public: Any = {"skip_signature": True} if anonymous else None
        return GCSStore(address.place, config=public, client_options=client, retry_config=retry)
    base = emulator if "://" in emulator else f"http://{emulator}"
    client |= _reached(base)
    config: Any = {"base_url": base, "skip_signature": True}
    return GCSStore(address.place, config=config, client_options=client, retry_config=retry)


def _reached(endpoint: str) -> dict[str, Any]:
    """Return how an endpoint is reached: without TLS where it says so, and on this machine without the environment's proxy."""
    plain = {"allow_http": endpoint.startswith("http://")}
    parts, proxies = urlsplit(endpoint), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or not this_machine(parts.hostname or ""):
        return plain
    # What the environment says, and one host more; the store that gives credentials may be behind the proxy still.
    return {**plain, "proxy_url": proxy, "proxy_excludes": ",".join(filter(None, [proxies.get("no"), parts.hostname]))}
