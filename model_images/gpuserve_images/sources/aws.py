"""What AWS's variables and files say about reaching S3, as far as the S3 client does not read them itself."""

import configparser
import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gpuserve_images import folders
from gpuserve_images.errors import SourceError

_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
_PROCESS_KEYS = {"AccessKeyId": "access_key_id", "SecretAccessKey": "secret_access_key", "SessionToken": "session_token"}
# Roles of pods, containers and functions, which the client asks for by itself; one of machines it asks for when there is nothing else.
_OWN = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_ELSEWHERE = ("sso_session", "sso_start_url", "role_arn", "login_session")
_PROCESS_SECONDS = 60


def aws_settings(environ: Mapping[str, str], where: str) -> dict[str, str]:
    """Return endpoint, region and keys; no keys where the client finds them itself.

    Variables come before the profile, as in AWS's own tools: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

    Args:
        environ: The environment variables.
        where: The address, for messages.

    Raises:
        SourceError: When AWS_PROFILE names no profile, or one that only AWS's own tools can use.
    """
    profile = _profile(environ, where)
    settings = {
        "endpoint": environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or profile.get("endpoint_url", ""),
        "region": environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or profile.get("region", ""),
    }
    if "AWS_ACCESS_KEY_ID" not in environ and not any(name in environ for name in _OWN):
        settings |= {ours: profile[theirs] for theirs, ours in _KEYS.items() if theirs in profile}
        if "access_key_id" not in settings:
            settings |= _borrowed(profile, environ.get("AWS_PROFILE") or "default", where)
    return {name: value for name, value in settings.items() if value}


def _profile(environ: Mapping[str, str], where: str) -> dict[str, str]:
    home = Path(environ.get("HOME") or folders.home() or "/")
    name = environ.get("AWS_PROFILE") or "default"
    config, credentials = configparser.RawConfigParser(), configparser.RawConfigParser()
    try:
        config.read(environ.get("AWS_CONFIG_FILE") or home / ".aws" / "config", encoding="utf-8")
        credentials.read(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        # The error's text may quote a line with a key.
        reason = "cannot be reached: the AWS configuration file is not readable"
        raise SourceError(where, reason, "Correct ~/.aws/config and ~/.aws/credentials.") from error
    found: dict[str, str] = {}
    section = name if name == "default" else f"profile {name}"
    for parser, title in ((config, section), (credentials, name)):
        if parser.has_section(title):
            found |= dict(parser.items(title))
    if not found and "AWS_PROFILE" in environ:
        reason = f"cannot be reached: there is no AWS profile {name!r}"
        raise SourceError(where, reason, "Correct AWS_PROFILE, or write the profile into ~/.aws/config.")
    return found


def _borrowed(profile: Mapping[str, str], name: str, where: str) -> dict[str, str]:
    """Return the keys that a profile's program prints.

    Raises:
        SourceError: When it fails, or the profile needs AWS's own tools.
    """
    command = profile.get("credential_process")
    if command is None:
        if any(key in profile for key in _ELSEWHERE):
            reason = f"cannot be reached: AWS profile {name!r} has no keys of its own, only a login or a role"
            fix = f'Put its keys into the environment: eval "$(aws configure export-credentials --profile {name} --format env)"'
            raise SourceError(where, reason, fix)
        return {}
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=_PROCESS_SECONDS)
        printed = cast("dict[str, Any]", json.loads(done.stdout))
        return {ours: str(printed[theirs]) for theirs, ours in _PROCESS_KEYS.items() if printed.get(theirs)}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        reason = f"cannot be reached: the `credential_process` of AWS profile {name!r} failed ({type(error).__name__})"
        raise SourceError(where, reason, "Run that command by hand.") from None
