"""Names that Kubernetes takes, and those that others have given: of objects, namespaces, nodes, hosts, paths and labels."""

import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from gpuserve.kubernetes.spec import known_at_plan_time

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
"""What most names of objects are, as a pattern (RFC 1123); how long they may be differs."""

MAX_LABEL = 40
"""Characters of a `DnsLabel`."""


def _pattern(expression: str, limit: int, reason: str, fix: str) -> AfterValidator:
    compiled = re.compile(expression)

    def check(value: str) -> str:
        if len(value) > limit or not compiled.fullmatch(value):
            msg = f"{reason}; {fix}"
            raise ValueError(msg)
        return value

    return AfterValidator(check)


def _no_address(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        return host
    msg = "is an IP address, which the Gateway API takes for no host; write a DNS name such as 'filetype.example.com'"
    raise ValueError(msg)


DnsLabel = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    _pattern(
        r"[a-z]([-a-z0-9]*[a-z0-9])?",
        MAX_LABEL,
        f"is not a DNS label of at most {MAX_LABEL} characters (RFC 1035, whose other 23 are for suffixes)",
        "use lower-case letters, digits and '-', starting with a letter, for example 'filetype'",
    ),
]
"""A name that becomes part of Kubernetes object names."""

Namespace = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    _pattern(
        _LABEL,
        63,
        "is not the name of a namespace (an RFC 1123 label of at most 63 characters)",
        "use lower-case letters, digits and '-', beginning and ending with a letter or digit, for example 'team-a'",
    ),
]
"""A namespace, which somebody else may have named."""

SecretName = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    _pattern(
        SUBDOMAIN,
        253,
        "is not a name of a Kubernetes object (an RFC 1123 subdomain of at most 253 characters)",
        "use lower-case letters, digits, '-' and '.', for example 'pull.example.com'",
    ),
]
"""The name of a Secret or ServiceAccount that somebody else made."""

DnsName = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    _pattern(
        rf"(\*\.)?{SUBDOMAIN}",
        253,
        "is not a host name",
        "write a DNS name such as 'filetype.example.com' or '*.example.com'",
    ),
]
"""A DNS name, the first label may be ``*``."""

HostName = Annotated[DnsName, AfterValidator(_no_address)]
"""A host as the Gateway API takes it: a DNS name, the first label may be ``*``."""

NodeName = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    _pattern(
        SUBDOMAIN,
        253,
        "is not the name of one node",
        "write a name that `kubectl get nodes` shows, such as 'gpu-1'; many nodes are chosen by their labels, with `node_selector`",
    ),
]
"""A node's name: a DNS name, which may also look like an IP address."""

UrlPath = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    _pattern(
        r"/|(/(?!\.{1,2}(/|$))[-A-Za-z0-9._~]+)+/?",
        1024,
        "is not a URL path prefix",
        "start it with '/', for example '/models/filetype', without '//', '/./' and '/../'",
    ),
    AfterValidator(lambda path: path.rstrip("/") or "/"),
]
"""A URL path prefix; a slash at its end is dropped, as it means nothing to a gateway."""

LabelKey = Annotated[
    str,
    _pattern(
        r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        317,
        "is no key of a label",
        "write a name of at most 63 letters, digits, '-', '_' and '.', after a domain where it has one: 'team', 'example.com/team'",
    ),
]
"""A key that Kubernetes takes for a label or a taint: a name, with the domain of whoever defines it."""

LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
"""A value that Kubernetes takes for a label."""
