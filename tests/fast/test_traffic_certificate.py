"""The generated certificate: what it says, and when it is renewed."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from gpuserve.traffic.certificate import LEAF_LIFETIME, RENEW_BEFORE, Certificate, is_due, issue, renew
from gpuserve.traffic.certificate_resource import CertificateProvider

HOST = "filetype.example.com"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def verify(certificate: Certificate, host: str, at: datetime) -> None:
    store = Store([x509.load_pem_x509_certificate(certificate.ca.encode())])
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(host))
    verifier.verify(x509.load_pem_x509_certificate(certificate.certificate.encode()), [])


def test_a_strict_client_accepts_the_leaf_for_its_whole_life() -> None:
    made = issue(HOST, now=NOW)
    verify(made, HOST, NOW)
    verify(made, HOST, NOW + LEAF_LIFETIME - timedelta(seconds=1))


def test_a_wildcard_host_and_a_long_one_work() -> None:
    verify(issue("*.example.com", now=NOW), "a.example.com", NOW)
    long = ".".join(["a" * 60] * 3)
    verify(issue(long, now=NOW), long, NOW)


def test_a_renewal_keeps_the_ca_that_clients_trust() -> None:
    old = issue(HOST, now=NOW)
    new = renew(old, "other.example.com", now=NOW)
    assert (new.ca, new.ca_key) == (old.ca, old.ca_key)
    assert new.key != old.key
    verify(new, "other.example.com", NOW)


def test_a_ca_that_would_end_before_the_leaf_is_replaced() -> None:
    late = NOW + timedelta(days=3600)
    new = renew(issue(HOST, now=NOW), HOST, now=late)
    verify(new, HOST, late + LEAF_LIFETIME - timedelta(days=1))


def test_it_is_due_in_its_last_month_only() -> None:
    expires = NOW.isoformat()
    assert not is_due(expires, now=NOW - RENEW_BEFORE)
    assert is_due(expires, now=NOW - RENEW_BEFORE + timedelta(seconds=1))


def test_the_resource_changes_only_with_the_host_or_near_the_end() -> None:
    provider = CertificateProvider()
    state = {**provider.create({"host": HOST}).outs, "__provider": "x"}
    assert provider.diff("id", state, {"host": HOST}).changes is False
    assert provider.diff("id", state, {"host": "other.example.com"}).changes is True
    assert provider.diff("id", {**state, "expires": datetime.now(UTC).isoformat()}, {"host": HOST}).changes is True
    updated = provider.update("id", state, {"host": "other.example.com"}).outs
    assert updated["ca"] == state["ca"]
    assert updated["host"] == "other.example.com"
    assert set(updated) == set(asdict(issue(HOST)))
