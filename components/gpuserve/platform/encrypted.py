"""Values of a stack file that ``pulumi config set --secret`` encrypted: only Pulumi can read them."""

from collections.abc import Iterator, Mapping
from typing import cast

from gpuserve.kubernetes.errors import Problem


def encrypted_parts(value: object, path: str) -> Iterator[str]:
    """Yield the dotted path of every encrypted value, which Pulumi writes as ``{secure: ...}``.

    Args:
        value: Something of a stack file.
        path: Where it stands.
    """
    if isinstance(value, Mapping):
        parts = cast("Mapping[object, object]", value)
        if list(parts) == ["secure"] and isinstance(parts["secure"], str):
            yield path
            return
        for name, part in parts.items():
            yield from encrypted_parts(part, f"{path}.{name}")
    elif isinstance(value, list):
        for place, part in enumerate(cast("list[object]", value)):
            yield from encrypted_parts(part, f"{path}[{place}]")


def encrypted_problems(value: object, path: str, file: str) -> Iterator[Problem]:
    """Yield a problem for every encrypted value of what is read without Pulumi."""
    for field in encrypted_parts(value, path):
        reason = "is encrypted: only Pulumi can read it, and `gpuserve` (`check`, `render` and the others) cannot"
        yield Problem(
            field, None, reason, "write it in plain; credentials belong into Secrets of the cluster, which it names", file
        )
