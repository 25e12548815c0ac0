"""The generated certificate as a Pulumi resource: made once, kept in the stack's state, renewed when it must be."""

from dataclasses import asdict, fields
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from gpuserve.traffic.certificate import Certificate, is_due, issue, renew


class CertificateProvider(ResourceProvider):
    """Issues on create; renews when the host changes or the leaf is about to end; otherwise leaves all as it is."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Issue a CA and a leaf."""
        host = str(props["host"])
        return CreateResult(id_=f"certificate-{host}", outs=asdict(issue(host)))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Ask for an update when the host changed or the leaf is due."""
        return DiffResult(changes=_olds["host"] != _news["host"] or is_due(str(_olds["expires"])))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Issue a new leaf from the same CA, so that clients need no new trust."""
        old = Certificate(**{part.name: str(_olds[part.name]) for part in fields(Certificate)})
        return UpdateResult(outs=asdict(renew(old, str(_news["host"]))))


class GeneratedCertificate(Resource, module="traffic", name="Certificate"):
    """A CA and a certificate for one host.

    Attributes:
        certificate: The leaf, PEM.
        key: Its private key, PEM; a secret.
        ca: The CA's certificate, PEM.
        expires: When the leaf ends, ISO 8601.
    """

    certificate: pulumi.Output[str]
    key: pulumi.Output[str]
    ca: pulumi.Output[str]
    expires: pulumi.Output[str]

    def __init__(self, name: str, host: str, opts: pulumi.ResourceOptions | None = None) -> None:
        made: dict[str, Any] = dict.fromkeys((part.name for part in fields(Certificate)), None)
        secret = pulumi.ResourceOptions(additional_secret_outputs=["key", "ca_key"])
        super().__init__(CertificateProvider(), name, {**made, "host": host}, pulumi.ResourceOptions.merge(secret, opts))
