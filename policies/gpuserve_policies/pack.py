"""The rules as policies of a Pulumi policy pack."""

from collections.abc import Mapping
from typing import Any

from pulumi_policy import Policy, ReportViolation, ResourceValidationArgs, ResourceValidationPolicy, Severity
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError

from gpuserve_policies.rule import Rule
from gpuserve_policies.rules import RULES, violations
from gpuserve_policies.secrets import SecretText, keep_secrets_marked

_NOT_KNOWN = object()


def policies() -> list[Policy]:
    """Return one policy per rule; their messages repeat no value that is a secret of the program's."""
    marked = keep_secrets_marked()
    return [_policy(rule, marked=marked) for rule in RULES]


def _policy(rule: Rule, *, marked: bool) -> Policy:
    def validate(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        manifest = manifest_of(args)
        if manifest is None:
            return
        unchecked: list[str] = []
        for violation in violations(rule, manifest):
            if violation.unchecked:
                unchecked.append(f"{violation.field} {violation.reason}")
            else:
                given = _given(violation.value, marked=marked)
                report_violation(f"{violation.field}{given} {violation.reason}. Fix: {rule.fix}", None)
        if unchecked:
            _say_unchecked("; ".join(unchecked))

    return ResourceValidationPolicy(
        name=rule.name,
        description=rule.description,
        validate=validate,
        severity=Severity(rule.severity),
        remediation_steps=rule.fix,
        url=rule.url,
    )


def _given(value: object, *, marked: bool) -> str:
    if value is None:
        return ""
    secret = isinstance(value, SecretText) or not marked
    return " = <not shown: it may be a secret>" if secret else f" = {value!r}"


def manifest_of(args: ResourceValidationArgs) -> Mapping[str, Any] | None:
    """Return the Kubernetes object of a resource, with values that are not known yet as opaque leaves.

    ``None`` for resources of other providers, and for patches, which are parts of objects that stand elsewhere.
    """
    provider, _, rest = args.resource_type.partition(":")
    version, _, kind = rest.partition(":")
    if provider != "kubernetes" or not kind or kind.endswith("Patch"):
        return None
    return {"apiVersion": version, **_plain(args.props), "kind": kind}


def _plain(value: Any) -> Any:
    """Copy the engine's proxies, which raise at each value that is not known, into plain data."""
    if isinstance(value, Mapping):
        return {key: _item(value, key) for key in value}
    if hasattr(value, "__getitem__") and not isinstance(value, str):
        return [_item(value, index) for index in range(len(value))]
    return value


def _item(container: Any, key: Any) -> Any:
    try:
        return _plain(container[key])
    except UnknownValueError:
        return _NOT_KNOWN


def _say_unchecked(what: str) -> None:
    """End the policy as one that could not be run: the engine shows that as a note and goes on with the preview.

    A violation of a mandatory policy would stop it, and staying silent would look like a pass.
    """
    error = UnknownValueError(UNKNOWN_STRING_VALUE, [])
    error.message = what
    raise error
