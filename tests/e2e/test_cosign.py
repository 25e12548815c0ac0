"""Signatures and keys, seen by the real cosign."""

import os
import subprocess
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from e2e_registry import RegistryServer

from gpuserve_embedded.tools import ensure
from gpuserve_images.oci import File, Layer, SignatureError, attach, bake, sign, verify_signature
from gpuserve_images.oci.keys import private_key

pytestmark = pytest.mark.e2e
OTHER = ec.generate_private_key(ec.SECP256R1())
# No transparency log, no certificates: a key and a registry on this machine.
OFFLINE = ["--insecure-ignore-tlog=true", "--allow-insecure-registry", "--new-bundle-format=false"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@cache
def program():
    """Return cosign; building it takes minutes, once, so the first call is in a fixture, which no time limit is on."""
    return ensure("cosign", print)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    cosign(folder, "generate-key-pair")
    return folder


def cosign(folder, *arguments, check=True):
    variables = {**os.environ, "COSIGN_PASSWORD": "correct horse", "HOME": str(folder)}
    done = subprocess.run(
        [program(), *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


def image(registry, name):
    return bake(f"{registry.host}/{name}:1", [Layer({"/m": File(name.encode())})]).reference


def test_cosign_verifies_what_we_sign_with_its_key(registry, keys, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "correct horse")
    key = private_key("cosign.key", keys)
    signed, other = image(registry, "signed"), image(registry, "other")
    document = attach(signed, {"a.json": File(b"{}")}, artifact_type="application/vnd.test.v1").reference
    for reference in (signed, document):
        sign(reference, key, annotations={"by": "gpuserve"})
        said = cosign(keys, "verify", "--key", "cosign.pub", "-a", "by=gpuserve", *OFFLINE, reference)
        assert reference.split("@")[1] in said.stdout
    assert cosign(keys, "verify", "--key", "cosign.pub", *OFFLINE, other, check=False).returncode != 0


@pytest.mark.parametrize("layout", ["classic", "bundle"])
def test_we_verify_what_cosign_signs(registry, keys, layout):
    signed = image(registry, f"theirs/{layout}")
    options = ["--tlog-upload=false", "--allow-insecure-registry", "--use-signing-config=false", "--yes"]
    cosign(keys, "sign", "--key", "cosign.key", *options, f"--new-bundle-format={str(layout == 'bundle').lower()}", signed)
    assert verify_signature(signed, str(keys / "cosign.pub")).digest == signed.split("@")[1]
    with pytest.raises(SignatureError, match="has 1 signatures, none of them by this key"):
        verify_signature(signed, OTHER.public_key())
    with pytest.raises(SignatureError, match="is not signed"):
        verify_signature(image(registry, "unsigned"), str(keys / "cosign.pub"))
