"""A CA and a certificate for one host: pure functions over PEM text."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=397)
"""Public CAs may not go over 398 days (CA/Browser Forum ballot SC31), and some clients refuse longer ones."""

RENEW_BEFORE = timedelta(days=30)
"""A leaf with less left is renewed: the margin that Let's Encrypt recommends."""

CLOCK_SKEW = timedelta(minutes=5)
COMMON_NAME_LIMIT = 64
"""Characters of a common name (RFC 5280, ub-common-name); clients read the subject alternative name anyway."""


@dataclass(frozen=True)
class Certificate:
    """What a TLS server and its clients need, all PEM.

    Attributes:
        host: The host it is for.
        certificate: The leaf certificate.
        key: The leaf's private key.
        ca: The CA's certificate, which clients trust.
        ca_key: The CA's private key, kept so that a renewal does not ask clients for new trust.
        expires: When the leaf ends, ISO 8601.
    """

    host: str
    certificate: str
    key: str
    ca: str
    ca_key: str
    expires: str


def issue(host: str, *, now: datetime | None = None) -> Certificate:
    """Return a new CA and a leaf for ``host`` signed by it; keys are on P-256."""
    start = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gpuserve CA for {host}"[:COMMON_NAME_LIMIT])])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    ca = (
        _builder(name, name, key, start, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return renew(Certificate(host, "", "", _pem(ca), _key_pem(key), ""), host, now=start)


def renew(old: Certificate, host: str, *, now: datetime | None = None) -> Certificate:
    """Return a new leaf for ``host`` from the same CA, or from a new one when that would not outlive the leaf."""
    start = now or datetime.now(UTC)
    ca = x509.load_pem_x509_certificate(old.ca.encode())
    if ca.not_valid_after_utc < start + LEAF_LIFETIME:
        return issue(host, now=start)
    ca_key = serialization.load_pem_private_key(old.ca_key.encode(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        msg = "the stored CA key is no elliptic-curve key"
        raise TypeError(msg)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:COMMON_NAME_LIMIT])])
    leaf = (
        _builder(subject, ca.subject, key, start, LEAF_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return replace(
        old,
        host=host,
        certificate=_pem(leaf),
        key=_key_pem(key),
        expires=leaf.not_valid_after_utc.isoformat(),
    )


def is_due(expires: str, *, now: datetime | None = None) -> bool:
    """Tell whether a leaf that ends at ``expires`` should be renewed."""
    return datetime.fromisoformat(expires) - (now or datetime.now(UTC)) < RENEW_BEFORE


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
