"""The HTTPS listener answers with a certificate of the generated CA, and with no other."""

import base64

import pytest
import urllib3
from e2e_stack import Stack
from e2e_traffic import HOST, MODEL

from gpuserve.traffic.certificate import issue

pytestmark = pytest.mark.e2e

NAMESPACE = "gpuserve-local"


def _get(ca: str, host: str, tmp_path) -> urllib3.BaseHTTPResponse:
    file = tmp_path / "ca.crt"
    file.write_text(ca)
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1",
        8443,
        server_hostname=host,
        assert_hostname=host,
        ca_certs=str(file),
        cert_reqs="CERT_REQUIRED",
        retries=False,
    )
    return pool.request("GET", f"/v2/models/{MODEL}", headers={"Host": host}, timeout=10)


def test_the_generated_ca_verifies_the_gateway(stack: Stack, tmp_path):
    ca = stack.cluster.get("configmap", "filetype-ca", "-n", NAMESPACE)["data"]["ca.crt"]
    answer = _get(ca, HOST, tmp_path)
    assert answer.status == 200
    assert answer.json()["name"] == MODEL


def test_another_ca_does_not(stack: Stack, tmp_path):
    with pytest.raises(urllib3.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        _get(issue(HOST).ca, HOST, tmp_path)


def test_another_name_does_not(stack: Stack, tmp_path):
    ca = stack.cluster.get("configmap", "filetype-ca", "-n", NAMESPACE)["data"]["ca.crt"]
    with pytest.raises(urllib3.exceptions.SSLError):
        _get(ca, "other.example.com", tmp_path)


def test_the_key_is_in_the_secret_alone(stack: Stack):
    secret = stack.cluster.get("secret", "filetype-tls", "-n", NAMESPACE)
    assert b"PRIVATE KEY" in base64.b64decode(secret["data"]["tls.key"])
    outputs = stack.cluster.kubectl("get", "configmaps", "-n", NAMESPACE, "-o", "yaml")
    assert "PRIVATE KEY" not in outputs
