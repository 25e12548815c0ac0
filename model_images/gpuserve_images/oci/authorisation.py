"""Access tokens: a registry names a token server and a scope, the server gives a token for our credentials.

Tokens are kept per repository and kind of access, because several uploads run at once and a token of one scope is refused in another
(https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/).
"""

import re
import threading
from dataclasses import dataclass
from typing import Any

import requests

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.challenges import challenges
from gpuserve_images.oci.credentials import Credentials, credentials_for
from gpuserve_images.oci.retries import ATTEMPTS, RETRIED, pause

_CLIENT = "gpuserve"
# What a header can hold, and more than any token has (RFC 6750, 2.1).
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SECONDS = 30.0


@dataclass(frozen=True)
class Scope:
    """What a token is good for, as far as we need to tell tokens apart."""

    repository: str
    writes: bool

    def among(self, named: list[str]) -> list[str]:
        """Return the scopes to ask for, of those that a challenge names: this one too where it names none, or less of this repository.

        A challenge need not name any, and that of some registries names `pull` whatever was refused.
        """
        actions = ("pull", "push") if self.writes else ("pull",)
        here = [scope for scope in named if scope.startswith(f"repository:{self.repository}:")]
        allowed = [set(scope.rpartition(":")[2].split(",")) for scope in here]
        enough = any("*" in each or each >= set(actions) for each in allowed)
        return named if enough or (named and not here) else [*named, f"repository:{self.repository}:{','.join(actions)}"]


class Authorisation:
    """The `Authorization` headers of one registry; used by several threads at once."""

    def __init__(self, registry: str, session: requests.Session) -> None:
        """Ask for nothing yet; credentials are looked up at the first challenge for each repository."""
        self._registry = registry
        self._session = session
        self._headers: dict[Scope, str] = {}
        self._credentials: dict[str, Credentials | None] = {}
        self._lock = threading.Lock()

    def header(self, scope: Scope) -> dict[str, str]:
        """Return the header to send, empty before the registry asked for one."""
        value = self._headers.get(scope)
        return {"Authorization": value} if value else {}

    def renew(self, scope: Scope, answer: requests.Response, used: dict[str, str]) -> bool:
        """Get a new header for a scope after a refusal.

        Args:
            scope: What was asked for.
            answer: The refusal, with its challenge.
            used: The header that was refused.

        Returns:
            Whether there is a header now that was not refused yet.

        Raises:
            RegistryError: The credentials cannot be read, or the token server is down.
        """
        with self._lock:
            # Another thread may have renewed it while this one waited.
            if self.header(scope) != used:
                return True
            value = self._answer_to(answer.headers.get("Www-Authenticate", ""), scope)
            if value is None or value == used.get("Authorization"):
                return False
            self._headers[scope] = value
            return True

    def _answer_to(self, challenge: str, scope: Scope) -> str | None:
        asked = challenges(challenge)
        if not asked.keys() & {"basic", "bearer"}:
            return None
        if scope.repository not in self._credentials:
            self._credentials[scope.repository] = credentials_for(self._registry, scope.repository)
        known = self._credentials[scope.repository]
        if "bearer" in asked and (token := self._token(asked["bearer"], scope, known)):
            return f"Bearer {token}"
        return known.basic() if "basic" in asked and known and known.user else None

    def _token(self, challenge: dict[str, str], scope: Scope, known: Credentials | None) -> str | None:
        realm = challenge.get("realm", "")
        if not realm.startswith(("http://", "https://")):
            return None
        scopes = scope.among(challenge.get("scope", "").split())
        for attempt in range(ATTEMPTS):
            last = attempt + 1 == ATTEMPTS
            try:
                answer = self._ask_for_token(realm, challenge, scopes, known)
                if answer.status_code == requests.codes.ok:
                    body: Any = answer.json()
                    return self._sound(realm, body.get("token") or body.get("access_token")) if isinstance(body, dict) else None
            except requests.RequestException as error:
                if last or isinstance(error, requests.exceptions.SSLError | requests.exceptions.JSONDecodeError):
                    # Without the error's text: what a server answered may hold a secret, and its address, too.
                    raise self._unusable(realm, f"gives no usable answer ({type(error).__name__})") from None
                pause(attempt)
            else:
                status = answer.status_code
                if status not in RETRIED:
                    break
                if last:
                    raise self._unusable(realm, f"answers HTTP {status}", status)
                pause(attempt, answer.headers.get("Retry-After"))
        return None

    def _ask_for_token(
        self, realm: str, challenge: dict[str, str], scopes: list[str], known: Credentials | None
    ) -> requests.Response:
        about = [("service", challenge["service"])] if "service" in challenge else []
        if known and known.refresh_token:
            form = [*about, ("scope", " ".join(scopes)), ("client_id", _CLIENT)]
            form += [("grant_type", "refresh_token"), ("refresh_token", known.refresh_token)]
            return self._session.post(realm, data=form, timeout=_SECONDS)
        headers = {"Authorization": known.basic()} if known else {}
        query = [*about, *(("scope", scope) for scope in scopes)]
        return self._session.get(realm, params=query, headers=headers, timeout=_SECONDS)

    def _sound(self, realm: str, token: Any) -> str | None:
        """Return a token that can be sent; what else stood in the answer must not come into a message, where it would as a header."""
        if not token:
            return None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise self._unusable(realm, "gives a token that no header can hold (spaces, line breaks, or no text at all)")
        return token

    def _unusable(self, realm: str, what: str, status: int | None = None) -> RegistryError:
        busy = status == requests.codes.too_many_requests
        fix = (
            "Wait a minute and run again, or log in for a higher limit"
            if busy
            else "See that the token server runs, then run again"
        )
        return RegistryError(self._registry, None, f"its token server {_shown(realm)} {what}", fix, status=status)


def _shown(realm: str) -> str:
    """Return a token server's address without user, password, query and fragment: a password may hold a slash."""
    scheme, _, rest = realm.partition("://")
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2], maxsplit=1)[0]}"
