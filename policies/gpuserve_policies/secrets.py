"""Which of the values that the engine hands to a policy are secrets: the SDK decrypts them for a policy, and forgets that they are."""

from collections.abc import Mapping
from typing import Any

from pulumi_policy import policy
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY

sdk: Any = policy


class SecretText(str):
    """A text that no message may repeat."""

    __slots__ = ()


def keep_secrets_marked() -> bool:
    """Have the SDK (up to 1.21 at least) hand secret texts to policies as `SecretText`.

    Call it once, in the pack's own process.

    Returns:
        Whether it will. If not, every value may be a secret.
    """
    known = getattr(sdk, "deserialize_properties", None)
    if not callable(known):
        return False

    def marked(props: Mapping[str, Any], *arguments: Any) -> Any:
        return known(_marked(props, secret=False), *arguments)

    sdk.deserialize_properties = marked
    return True


def _marked(value: Any, *, secret: bool) -> Any:
    """Return what came over the wire with every text in a secret marked; the secrets themselves are the SDK's to unwrap."""
    if isinstance(value, Mapping):
        within = secret or value.get(SPECIAL_SIG_KEY) == SPECIAL_SECRET_SIG
        return {key: part if key == SPECIAL_SIG_KEY else _marked(part, secret=within) for key, part in value.items()}
    if isinstance(value, list):
        return [_marked(part, secret=secret) for part in value]
    return SecretText(value) if secret and isinstance(value, str) else value
