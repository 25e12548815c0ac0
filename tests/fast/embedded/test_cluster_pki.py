"""Certificates: would the programs of the cluster trust and understand them?"""

import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpuserve_embedded.cluster import pki


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.new_authority("test authority")


def issued(authority: pki.Authority, leaf: pki.Leaf) -> x509.Certificate:
    certificate, _ = authority.issue(leaf)
    return x509.load_pem_x509_certificate(certificate)


def test_an_authority_may_sign_certificates_and_only_leaves(authority: pki.Authority) -> None:
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0


def test_a_client_is_who_kubernetes_binds_roles_to(authority: pki.Authority) -> None:
    certificate = issued(authority, pki.Leaf("admin", "somebody", groups=("system:masters",)))
    subject = certificate.subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "somebody"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:masters"
    certificate.verify_directly_issued_by(authority.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_server_names_its_hosts_and_addresses(authority: pki.Authority) -> None:
    certificate = issued(authority, pki.Leaf("s", "server", hosts=("a.example.com", IPv4Address("10.0.0.1"))))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.0.0.1")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in usage


def test_a_certificate_is_valid_now_and_for_a_year(authority: pki.Authority) -> None:
    certificate = issued(authority, pki.Leaf("c", "client"))
    now = datetime.now(UTC)
    assert certificate.not_valid_before_utc < now
    assert timedelta(days=364) < certificate.not_valid_after_utc - now < timedelta(days=366)


def test_the_key_belongs_to_the_certificate(authority: pki.Authority) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate, key = authority.issue(pki.Leaf("c", "client"))
    private = load_pem_private_key(key, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key() == x509.load_pem_x509_certificate(certificate).public_key()


def test_a_private_file_is_its_owners_alone_even_where_it_was_not(tmp_path) -> None:
    path = tmp_path / "folder" / "key"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    pki.write_private(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"new"


def test_every_kubeconfig_has_a_certificate() -> None:
    leaves = {leaf.name for leaf in pki.CLUSTER_LEAVES}
    assert {*pki.KUBECONFIG_USERS, "admin"} <= leaves
