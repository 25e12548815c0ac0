"""What an error may repeat of what somebody wrote: everything but keys, passwords and tokens, wherever they were pasted.

An error ends up in the log of a build server. What a value is, its field's name tells, or the value itself; a password in a field
for something else looks like any other text and cannot be told.
"""

import re
from collections.abc import Mapping
from typing import cast

from gpuserve.kubernetes.outputs import is_output

_NAMES = re.compile(
    r"(^|[-_.])(key|password|passwd|passphrase|credentials?|tokens?|(api|app|client|shared|webhook)[-_]?secret)$", re.IGNORECASE
)
"""Names of fields that hold a secret, alone or as the last word: `password`, `api_key`, `aws-secret-access-key`. A `secret` by itself, and
a `registry_secret`, are the names of Kubernetes Secrets, which an error must show."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_VALUES = re.compile(
    r"-----BEGIN [A-Z0-9 ]+-----"  # PEM, RFC 7468
    r"|\beyJ[\w-]{8,}\.[\w-]+\."  # a signed JSON web token, RFC 7519
    # Prefixes that the issuers give: AWS, GitHub, GitLab, Hugging Face, OpenAI and others, Slack, Pulumi, NVIDIA.
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\b(gh[opsur]_|github_pat_|glpat-|hf_|sk-|xox[abp]-|pul-|nvapi-)[\w-]{16,}"
    r"|[?&](sig|token|X-Amz-Signature|X-Goog-Signature)=[^&\s]+"  # an address that lets its holder in
)

_LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)|^[^/\s:@]+:[^/\s]+(?=@(?!sha256:))")
"""Name and password before a host; an image's tag before its digest looks alike."""


class _Hidden:
    def __repr__(self) -> str:
        return "<not shown: it may be a secret>"


HIDDEN = _Hidden()
"""Stands for a secret; its `repr` says so."""


class _Unknown:
    def __repr__(self) -> str:
        return "a Pulumi Output"


UNKNOWN = _Unknown()
"""Stands for an Output, whose value nobody knows yet and which may be a secret; asked for its text, it complains or raises."""


def without_secrets(field: str, value: object) -> object:
    """Return `value` as it may be shown.

    Args:
        field: Dotted path of the field that it was given for.
        value: Any plain data; mappings and lists are searched through. None and references to a variable (`env://NAME`) are no secrets.
    """
    if is_output(value):
        return UNKNOWN
    if value is None or isinstance(value, bool) or value in ("", b""):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {_text(str(name)): without_secrets(str(name), item) for name, item in items}
    if isinstance(value, list | tuple):
        return [without_secrets(field, item) for item in cast("list[object]", value)]
    if not str(value).startswith("env://") and _NAMES.search(_CAMEL.sub("_", re.sub(r"\[\d+\]$", "", field))):
        return HIDDEN
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> object:
    return HIDDEN if _VALUES.search(text) else _LOGIN.sub("...", text)
