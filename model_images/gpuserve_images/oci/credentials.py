"""Registry credentials, from where Docker and Podman keep them: configuration files and credential helpers.

They are read when a registry first asks for them, live in the process's memory only, and appear in no message: what a helper prints
is never repeated.
"""

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gpuserve_images import folders
from gpuserve_images.errors import RegistryError

_HELPER_SECONDS = 60
# Under this user name a helper hands out a refresh token in place of a password (docker/docker-credential-helpers, README).
_TOKEN_USER = "<token>"  # noqa: S105 - a user name that the protocol prescribes
# Docker Hub's credentials are stored under the address of its first API (docker/cli, `registry.IndexServer`); Podman's under `docker.io`.
_DOCKER_HUB_HOSTS = ("index.docker.io", "docker.io", "registry-1.docker.io")
_DOCKER_HUB = frozenset(_DOCKER_HUB_HOSTS)
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_ENTRY = ("auth", "username", "password", "identitytoken")
_API_PATHS = frozenset({"", "v1", "v2"})


@dataclass(frozen=True)
class Credentials:
    """Who we are to one registry; the secrets are not in its text form.

    Attributes:
        user: User name, or empty with a refresh token.
        password: Password or access key.
        refresh_token: Token that the registry's token server exchanges for access tokens, or empty.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """Return the value of an `Authorization` header for Basic authentication."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def credentials_for(registry: str, repository: str = "") -> Credentials | None:
    """Look a registry's credentials up.

    The files are `$DOCKER_CONFIG/config.json` (default `~/.docker/config.json`), then `$REGISTRY_AUTH_FILE` and Podman's
    `$XDG_RUNTIME_DIR/containers/auth.json`. In each, `credHelpers` wins over `credsStore`, and that over `auths`. Of these, where
    Podman may have one for a part of a registry, the narrowest that holds for the repository counts
    (containers/image, docs/containers-auth.json.5.md).

    Args:
        registry: Host with optional port.
        repository: Path below it. Default: only what holds for the whole registry counts.

    Raises:
        RegistryError: A file is not what it should be, or a helper that it names is missing or fails.
    """
    for path in _files():
        found = _in_file(path, registry, repository)
        if found:
            return found
    return None


def _files() -> Iterator[Path]:
    folder, home = os.environ.get("DOCKER_CONFIG"), folders.home()
    named = Path(folder) if folder else home / ".docker" if home else None
    candidates = [named / "config.json"] if named else []
    if other := os.environ.get("REGISTRY_AUTH_FILE"):
        candidates.append(Path(other))
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(runtime, "containers", "auth.json"))
    return (path for path in candidates if _is_there(path))


def _is_there(path: Path) -> bool:
    """Tell whether a file is there; one below a folder that this user may not look into is not: such a HOME is another user's."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def _in_file(path: Path, registry: str, repository: str) -> Credentials | None:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # Only the kind of error: a message of the parser may quote the file.
        raise _broken(path, registry, f"cannot be read ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise _broken(path, registry, "is not a JSON object")
    config = cast("dict[str, Any]", data)
    if wrong := _wrong_type(config):
        raise _broken(path, registry, f"has a `{wrong}` of another type than Docker writes")
    helpers: dict[str, str] = config.get("credHelpers") or {}
    for key in _keys(registry):
        if key in helpers:
            return _from_helper(helpers[key], key, registry)
    if store := config.get("credsStore"):
        for key in _keys(registry):
            if found := _from_helper(store, key, registry):
                return found
    entries: dict[str, dict[str, str]] = config.get("auths") or {}
    by_place = {_place(key): entry for key, entry in entries.items() if entry}
    told = (_from_entry(by_place[place], path, registry) for place in _places(registry, repository) if place in by_place)
    return next((found for found in told if found), None)


def _wrong_type(config: dict[str, Any]) -> str | None:
    """Return the field that does not have the type that Docker and Podman give it; none of what it says, which may be a secret."""
    found: dict[str, tuple[Any, type]] = {
        "credHelpers": (config.get("credHelpers"), dict),
        "credsStore": (config.get("credsStore"), str),
        "auths": (config.get("auths"), dict),
    }
    if isinstance(config.get("credHelpers"), dict):
        found |= {f"credHelpers[{key}]": (value, str) for key, value in config["credHelpers"].items()}
    entries = config["auths"] if isinstance(config.get("auths"), dict) else {}
    for key, entry in entries.items():
        found[f"auths[{key}]"] = (entry, dict)
        if isinstance(entry, dict):
            fields = cast("dict[str, Any]", entry)
            found |= {f"auths[{key}].{name}": (fields.get(name), str) for name in _ENTRY}
    return next((name for name, (value, kind) in found.items() if value is not None and not isinstance(value, kind)), None)


def _keys(registry: str) -> list[str]:
    return [_DOCKER_HUB_KEY, *sorted(_DOCKER_HUB)] if registry in _DOCKER_HUB else [registry, f"https://{registry}"]


def _places(registry: str, repository: str) -> Iterator[str]:
    """Yield what an entry that holds for a repository may be for, the narrowest first and the whole registry last."""
    hosts = _DOCKER_HUB_HOSTS if registry in _DOCKER_HUB else (registry,)
    parts = repository.split("/") if repository else []
    for length in range(len(parts), -1, -1):
        for host in hosts:
            yield "/".join((host, *parts[:length]))


def _place(key: str) -> str:
    """Return what a key is for: a registry, which old tools wrote as its API's address (`https://host/v1/`), or a part of one."""
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    path = path.strip("/")
    return host if path in _API_PATHS else f"{host}/{path}"


def _from_entry(entry: dict[str, str], path: Path, registry: str) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(refresh_token=token)
    if not entry.get("auth"):
        return Credentials(entry["username"], entry["password"]) if entry.get("username") and entry.get("password") else None
    try:
        user, separator, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        separator = ""
        user = password = ""
    if not separator:
        raise _broken(path, registry, "holds an `auth` that is not base64 of `user:password`")
    # Docker pads with NUL bytes in some versions.
    return Credentials(user, password.rstrip("\0"))


def _from_helper(suffix: str, key: str, registry: str) -> Credentials | None:
    """Ask a helper, which reads the registry's name and prints JSON; None when it knows no credentials."""
    program = f"docker-credential-{suffix}"
    if shutil.which(program) is None:
        fix = f"Install {program}, put its folder on PATH, or take it out of the Docker configuration"
        raise RegistryError(registry, None, f"its credential helper {program} is not on PATH", fix)
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, check=False, timeout=_HELPER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _helper_failed(program, key, registry, type(error).__name__) from None
    if done.returncode:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise _helper_failed(program, key, registry, f"status {done.returncode}")
    try:
        # JSON is UTF-8, whatever the machine's locale is.
        answer: Any = json.loads(done.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise _helper_failed(program, key, registry, "an answer without Username and Secret") from None
    return Credentials(refresh_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


def _helper_failed(program: str, key: str, registry: str, how: str) -> RegistryError:
    fix = f"Run `echo {key} | {program} get` by hand to see why"
    return RegistryError(registry, None, f"its credential helper {program} failed ({how})", fix)


def _broken(path: Path, registry: str, what: str) -> RegistryError:
    fix = "Put the file right, or log in anew (`docker login`)"
    return RegistryError(registry, None, f"the Docker configuration {path} {what}", fix)
