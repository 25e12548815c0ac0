"""Servers with a certificate of the company's own: whose word is taken for it, and what is said where nobody's is."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from faulty_http import Fault, FaultyServer
from model_addresses import ONNX, source

from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch

pytestmark = pytest.mark.usefixtures("nothing_of_the_user", "trusts_nobody")
HERE = Path()
COMMIT = "c" * 40
KINDS = ("https", "s3", "gs", "hf", "oci")


@pytest.fixture
def trusts_nobody(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    # The hub's library keeps its connections, and with them whom it trusted.
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls") / "localhost.pem")


@pytest.fixture
def address(certificate, aws_keys, monkeypatch):
    """Return the address of each kind on one server that speaks TLS."""
    with FaultyServer(certificate=certificate) as server:
        host = server.url.removeprefix("https://")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("GPUSERVE_REGISTRY_ADDRESSES", f"{host}={server.url}")
        server.put("bucket/small.onnx", ONNX)
        server.put("api/models/owner/model", json.dumps({"id": "owner/model", "sha": COMMIT}).encode())
        server.put("v2/models/small/manifests/1", b"{}")
        places = {"s3": "bucket/small.onnx", "gs": "bucket/small.onnx", "hf": "owner/model", "oci": f"{host}/models/small:1"}
        yield lambda kind: f"{kind}://{places.get(kind, f'{host}/bucket/small.onnx')}"


@pytest.mark.parametrize("kind", KINDS)
def test_one_variable_does_for_every_kind_of_address(address, certificate, monkeypatch, kind):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert pin(address(kind)).url.startswith(f"{kind}://")


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        *[(kind, name) for kind in ("https", "s3", "gs", "oci") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")],
        ("s3", "AWS_CA_BUNDLE"),
    ],
)
def test_what_other_clients_of_that_kind_look_at(address, certificate, monkeypatch, kind, variable):
    monkeypatch.setenv(variable, str(certificate))
    assert pin(address(kind)).url.startswith(f"{kind}://")


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_of_nobody_is_an_error_at_once_that_names_the_variable(address, kind):
    variable = "SSL_CERT_FILE" if kind == "hf" else "REQUESTS_CA_BUNDLE"
    with pytest.raises((SourceError, RegistryError), match=f"certificate .*is not trusted.*Set {variable} to the file"):
        pin(address(kind))


def test_a_file_without_certificates(address, tmp_path, monkeypatch):
    (tmp_path / "key.pem").write_text("hidden-word")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "key.pem"))
    with pytest.raises(SourceError, match=r"key\.pem\): cannot be reached: AWS_CA_BUNDLE names a file without certificates"):
        pin(address("s3"))


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        *[(kind, name) for kind in ("https", "oci") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")],
        ("hf", "SSL_CERT_FILE"),
    ],
)
@pytest.mark.parametrize(
    "wrong",
    [("/nowhere/key.pem", r"that cannot be read \(No such file or directory\)"), (__file__, "without certificates in PEM")],
)
def test_a_variable_that_names_no_certificates_is_named(address, monkeypatch, kind, variable, wrong):
    name, what = wrong
    monkeypatch.setenv(variable, name)
    with pytest.raises(
        (SourceError, RegistryError),
        match=rf"cannot be reached: {variable} names a file {what}: {name}\. Fix: Correct {variable}",
    ):
        pin(address(kind))


def test_a_wrong_variable_does_not_matter_without_tls(web, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert pin(web.put("small.onnx", ONNX)).size == len(ONNX)


def test_a_cut_download_goes_on(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with FaultyServer(certificate=certificate) as server:
        spec = source(server.put("small.onnx", ONNX, Fault(cut_after=10)))
        assert fetch(spec, HERE).entry.read_bytes() == ONNX
        assert server.sent_ranges("small.onnx") == [None, "bytes=10-"]


def test_a_file_that_comes_without_encryption_is_not_pinned(certificate, web, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with FaultyServer(certificate=certificate) as server:
        plain = web.put("small.onnx", ONNX)
        url = server.put("small.onnx", b"", *[Fault(status=302, headers={"Location": plain})] * 2)
        with pytest.raises(SourceError, match=r"redirects to an address without encryption.*stays with https"):
            pin(url)
        assert fetch(source(url), HERE).entry.read_bytes() == ONNX, "whose digest is known"
        moved = server.put("moved.onnx", b"", Fault(status=302, headers={"Location": f"{server.url}/real.onnx"}))
        server.put("real.onnx", ONNX)
        assert pin(moved).size == len(ONNX)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("https://127.0.0.1:{port}", r"asked for with TLS, and its endpoint speaks none.*http://"),
        ("http://nobody.invalid", r"host name does not resolve"),
    ],
)
def test_an_endpoint_that_cannot_be_spoken_to(web, aws_keys, monkeypatch, endpoint, words):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.format(port=web.url.rpartition(":")[2]))
    with pytest.raises(SourceError, match=words):
        pin("s3://bucket/small.onnx")


def self_signed(path: Path) -> Path:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
