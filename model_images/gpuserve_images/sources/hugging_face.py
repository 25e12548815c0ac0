"""`hf` addresses: a repository of the Hugging Face Hub at one commit. HF_TOKEN or the login, and HF_ENDPOINT, as for its own tools."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import requests

from gpuserve_images.certificates import wrong_authorities
from gpuserve_images.errors import SourceError
from gpuserve_images.proxies import by_way_of_proxy, proxy_fault
from gpuserve_images.sources.addresses import Address, this_machine
from gpuserve_images.sources.remote import HiccupError, Listing, Reading, RemoteFile
from gpuserve_images.sources.web import Web
from gpuserve_images.waiting import asked_wait

if TYPE_CHECKING:
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import HfHubHTTPError

_LOG_IN = "Accept the model's terms on its page where it has any, then set HF_TOKEN or run `hf auth login`."
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_Result = TypeVar("_Result")


@cache
def _past_proxies() -> None:
    """Let the library's client reach this machine itself, whatever the environment's proxy is: that could never reach it."""
    import huggingface_hub

    usual = huggingface_hub.get_session()

    def anew() -> Any:
        # A host without a transport of its own is reached directly; the others by the environment, as ever.
        direct = {f"all://{host}": None for host in _LOOPBACK}
        hooks, follow = usual.event_hooks, usual.follow_redirects
        return type(usual)(event_hooks=hooks, follow_redirects=follow, timeout=usual.timeout, mounts=direct)

    huggingface_hub.set_client_factory(anew)


class HuggingFace:
    """A repository, a folder of it, or a file of it."""

    def __init__(self, address: Address) -> None:
        """Connect to nothing yet.

        Raises:
            SourceError: When huggingface_hub is not installed, or the token is none.
        """
        try:
            import huggingface_hub
            from huggingface_hub.utils import build_hf_headers
        except ImportError as error:
            reason = f"needs a package that is not installed ({error.name})"
            raise SourceError(address.shown, reason, "Install it: pip install 'gpuserve[sources]'") from error
        _refuse_wrong_token(huggingface_hub.get_token())
        self._address = address
        self._hub = huggingface_hub
        self._endpoint = os.environ.get("HF_ENDPOINT")
        self._api = huggingface_hub.HfApi(endpoint=self._endpoint)
        if this_machine(urlsplit(self._api.endpoint).hostname or ""):
            _past_proxies()
        # The library's own file client names the token, too; bytes go through ours, which continues where it was cut.
        self._web = Web(address.shown, headers=build_hf_headers(), log_in=_LOG_IN)

    def commit(self) -> str:
        """Return the commit that the address's revision, or the default branch, is at."""
        address = self._address
        return str(self._ask(lambda: self._api.model_info(address.place, revision=address.revision)).sha)

    def listing(self) -> Listing:
        """Return the file, or all files below the folder."""
        from huggingface_hub import RepoFile

        address = self._address
        if address.path:
            found = self._ask(lambda: self._api.get_paths_info(address.place, [address.path], revision=address.revision))
            if not found:
                reason = f"does not exist at commit {address.revision}"
                raise SourceError(address.shown, reason, "Correct the path.", value=address.path)
            if isinstance(found[0], RepoFile):
                return Listing((self._remote(found[0], address.name),), folder=False)
        tree = self._ask(self._tree)
        prefix = f"{address.path}/" if address.path else ""
        files = tuple(self._remote(entry, entry.path.removeprefix(prefix)) for entry in tree)
        if not files:
            raise SourceError(address.shown, "holds no files", "Name another repository or commit.")
        return Listing(files, folder=True)

    def read(self, file: RemoteFile, start: int) -> AbstractContextManager[Reading]:
        """Open a file from a byte on."""
        return self._web.read(file, start)

    def _tree(self) -> "list[RepoFile]":
        """Return the files below the folder.

        As `list_repo_tree` of the library does it, which waits by itself however long the hub asks it to, and says so in a log.
        """
        from huggingface_hub import RepoFile
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id

        address = self._address
        validate_repo_id(address.place)
        where = "/".join(quote(part, safe="") for part in (str(address.revision), address.path) if part)
        url: str | None = f"{self._api.endpoint}/api/models/{address.place}/tree/{where}?recursive=true&expand=false"
        files: list[RepoFile] = []
        while url:
            page = get_session().get(url, headers=build_hf_headers())
            hf_raise_for_status(page)
            files += [RepoFile(**entry) for entry in page.json() if entry["type"] == "file"]
            url = page.links.get("next", {}).get("url")
        return files

    def _remote(self, entry: "RepoFile", path: str) -> RemoteFile:
        url = self._hub.hf_hub_url(self._address.place, entry.path, revision=self._address.revision, endpoint=self._endpoint)
        # Large files have their SHA-256 in git LFS; the others are git blobs.
        return RemoteFile(path, url, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)

    def _ask(self, question: Callable[[], _Result]) -> _Result:
        import huggingface_hub.errors as said

        try:
            return question()
        except said.HfHubHTTPError as error:
            raise self._refused(error) from error
        except (said.HFValidationError, said.OfflineModeIsEnabled) as error:
            reason = f"was not asked for: {error}"
            raise SourceError(self._address.shown, reason, "Correct the name, or unset HF_HUB_OFFLINE.") from error
        except (OSError, requests.RequestException) as error:
            raise self._unreachable(error) from error
        except Exception as error:
            # The library's HTTP client is its own business: httpx by one name or another.
            if "httpx" in type(error).__module__ or "httpcore" in type(error).__module__ or proxy_fault(error):
                raise self._unreachable(error) from error
            if isinstance(error, UnicodeError):
                reason = "is answered with an address that is none"
                raise SourceError(self._address.shown, reason, "Look at HF_ENDPOINT, and at what stands before it.") from error
            raise

    def _unreachable(self, error: Exception) -> Exception:
        if (isinstance(error, OSError) or "SSL" in str(error)) and (wrong := wrong_authorities(of_system=True)):
            return SourceError(self._address.shown, *wrong)
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason = "the TLS certificate of the hub, or of a proxy before it, is not trusted"
            # The hub's own client looks at no other variable; the files' client takes this one, too.
            return SourceError(self._address.shown, reason, "Set SSL_CERT_FILE to the file of its certificate authority.")
        if fault := proxy_fault(error):
            return SourceError(self._address.shown, fault.reason, fault.fix) if fault.lasting else HiccupError(fault.reason)
        return HiccupError(f"the connection failed{by_way_of_proxy(self._api.endpoint)}")

    def _refused(self, error: "HfHubHTTPError") -> Exception:
        import huggingface_hub.errors as said

        where, status = self._address.shown, error.response.status_code
        if isinstance(error, said.GatedRepoError):
            return SourceError(where, "is for those who accepted its terms", _LOG_IN, value="HTTP 403")
        if isinstance(error, said.RevisionNotFoundError):
            return SourceError(where, "has no such commit", "Correct what follows the @.", value=self._address.revision)
        if isinstance(error, said.RepositoryNotFoundError):
            reason = "does not exist, or is private and these credentials may not see it"
            return SourceError(where, reason, f"Correct the name. {_LOG_IN}", value="HTTP 404")
        if status == requests.codes.too_many_requests or status >= requests.codes.internal_server_error:
            return HiccupError(f"HTTP {status}: the hub failed", asked_wait(error.response.headers.get("Retry-After")))
        reason = "may not be read with these credentials" if status in {401, 403} else "was refused"
        return SourceError(where, reason, _LOG_IN, value=f"HTTP {status}")


def _refuse_wrong_token(token: str | None) -> None:
    """Refuse a token that no header can hold, such as one with a letter that was pasted with it.

    Raises:
        SourceError: When it is such a one; its value is not shown.
    """
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        reason = "its value, or that of the login, is no token: it holds letters that are not ASCII, or blanks"
        raise SourceError("HF_TOKEN", reason, "Copy it again from the hub's settings, or run `hf auth login`.")
