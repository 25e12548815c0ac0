"""Keys and signatures: cosign's layout, its key files, and what is refused."""

import base64
import hashlib
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from faulty_http import Fault

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, Layer, SignatureError, attach, bake, sign, tag_image, verify_signature
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.keys import SigningKeyError, private_key, public_key, public_text
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.spec import BakeSpec

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
PHRASE = "correct horse"


def pem(key, phrase=""):
    encryption = BestAvailableEncryption(phrase.encode()) if phrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def cosign_pem(key, phrase, kind="SIGSTORE"):
    """What `cosign generate-key-pair` writes."""
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(32), os.urandom(24)
    secret = Scrypt(salt=salt, length=32, n=1 << 10, r=8, p=1).derive(phrase.encode())
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    text = {
        "kdf": {"name": "scrypt", "params": {"N": 1 << 10, "r": 8, "p": 1}, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(SecretBox(secret).encrypt(plain, nonce).ciphertext).decode(),
    }
    body = base64.encodebytes(json.dumps(text).encode()).decode()
    return f"-----BEGIN ENCRYPTED {kind} PRIVATE KEY-----\n{body}-----END ENCRYPTED {kind} PRIVATE KEY-----\n"


@pytest.fixture
def image(registry, request):
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return bake(f"{registry.host}/signed/{name}:1", [Layer({"/m": File(request.node.name.encode())})]).reference


def test_a_signature_holds_for_its_key_and_image_only(registry, image):
    sign(image, KEY, annotations={"by": "me"})
    found = verify_signature(image, public_text(KEY))
    assert (found.digest, found.named, found.annotations) == (image.split("@")[1], image.split("@")[0], {"by": "me"})
    with pytest.raises(SignatureError, match="has 1 signatures, none of them by this key"):
        verify_signature(image, public_text(OTHER))
    with pytest.raises(SignatureError, match="is not signed"):
        verify_signature(bake(f"{registry.host}/signed/x:1", [Layer({"/other": File(b"o")})]).reference, public_text(KEY))


def test_a_tag_is_checked_as_what_it_names_now(registry, image):
    tag = image.split("@")[0] + ":1"
    sign(tag, KEY)
    assert verify_signature(tag, public_text(KEY)).digest == image.split("@")[1]
    bake(tag, [Layer({"/m": File(b"somebody else's")})])
    with pytest.raises(SignatureError, match="is not signed"):
        verify_signature(tag, public_text(KEY))


def test_a_signature_moved_to_another_image_does_not_hold(registry, image):
    """The signature is genuine and found under the other image's tag, yet it is not about that image."""
    where = sign(image, KEY)
    other = bake(image.split("@")[0], [Layer({"/m": File(b"malicious")})])
    tag_image(where, where.rpartition(":")[0] + f":{other.digest.replace(':', '-')}.sig")
    with pytest.raises(SignatureError, match="none of them by this key over"):
        verify_signature(other.reference, public_text(KEY))


def test_signing_again_changes_nothing_and_a_second_key_adds_itself(registry, image):
    first = sign(image, KEY)
    sent = len([one for one in registry.requests() if one[0] == "PUT"])
    assert sign(image, KEY) == first
    assert len([one for one in registry.requests() if one[0] == "PUT"]) == sent
    sign(image, OTHER)
    assert verify_signature(image, public_text(KEY)).digest == verify_signature(image, public_text(OTHER)).digest


def test_an_image_that_is_not_there_cannot_be_signed(registry):
    with pytest.raises(RegistryError, match="has no image 1"):
        sign(f"{registry.host}/signed/never:1", KEY)


class TestAHeaderThatLies:
    @pytest.fixture
    def signed(self, web, image):
        """The digest of a signed image, which a registry of its own serves by tag, with the signature."""
        sign(image, KEY)
        place = Reference.parse(image)
        client = RegistryClient(place.host)
        signature = client.manifest(Reference(place.registry, place.repository, f"{place.digest.replace(':', '-')}.sig"))
        web.put(f"v2/m/manifests/{place.digest.replace(':', '-')}.sig", signature.content)
        for layer in json.loads(signature.content)["layers"]:
            web.put(f"v2/m/blobs/{layer['digest']}", client.blob(place, layer["digest"]))
        return place.digest

    @pytest.mark.parametrize("by_tag", [True, False])
    def test_is_not_taken_for_the_digest_of_a_signed_image(self, web, signed, by_tag):
        other = json.dumps({"schemaVersion": 2, "layers": []}).encode()
        digest = f"sha256:{hashlib.sha256(other).hexdigest()}"
        selector = "1" if by_tag else digest
        web.put(f"v2/m/manifests/{selector}", other, *[Fault(headers={"Docker-Content-Digest": signed})] * 9)
        with pytest.raises(SignatureError, match="is not signed"):
            verify_signature(f"{web.url[7:]}/m{':' if by_tag else '@'}{selector}", public_text(KEY))

    def test_is_refused_where_the_digest_was_said(self, web):
        digest = f"sha256:{hashlib.sha256(b'').hexdigest()}"
        web.put(f"v2/m/manifests/{digest}", b"", Fault(headers={"Docker-Content-Digest": "sha256:" + "0" * 64}))
        host = web.url[7:]
        with pytest.raises(RegistryError, match=f"answered sha256:0000.* when asked for {digest}"):
            RegistryClient(host).head_manifest(Reference(host, "m", digest=digest))


def bundle(digest, key=KEY, kind="https://sigstore.dev/cosign/sign/v1", **changes):
    """What `cosign sign --key` of release 3 attaches to an image."""
    subject = [{"digest": {"sha256": digest[7:]}, "annotations": {"by": "them"}}]
    payload = json.dumps({"predicateType": kind, "subject": subject, **changes}).encode()
    said = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    signature = base64.b64encode(key.sign(said, ec.ECDSA(SHA256()))).decode()
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": "application/vnd.in-toto+json"}
    return json.dumps({"dsseEnvelope": {**envelope, "signatures": [{"sig": signature}]}}).encode()


class TestBundles:
    KIND = "application/vnd.dev.sigstore.bundle.v0.3+json"

    def test_a_bundle_counts_as_a_signature(self, image):
        attach(image, {"b": File(bundle(image.split("@")[1]))}, artifact_type=self.KIND)
        assert verify_signature(image, public_text(KEY)).annotations == {"by": "them"}

    @pytest.mark.parametrize(
        "make",
        [
            lambda digest: bundle(digest, OTHER),
            lambda _: bundle("sha256:" + "0" * 64),
            lambda digest: bundle(digest, kind="https://slsa.dev/provenance/v1"),
            lambda digest: bundle(digest).replace(b"vnd.in-toto", b"vnd.notthis"),
            lambda _: b"{}",
            lambda _: b"no json",
        ],
    )
    def test_another_key_image_or_statement_does_not(self, image, make):
        attach(image, {"b": File(make(image.split("@")[1]))}, artifact_type=self.KIND)
        with pytest.raises(SignatureError, match="none of them by this key"):
            verify_signature(image, public_text(KEY))


class TestKeys:
    @pytest.mark.parametrize("kind", ["plain", "openssl", "cosign", "cosign 1"])
    def test_every_usual_form_of_a_key_is_read(self, tmp_path, monkeypatch, kind):
        forms = {
            "plain": lambda: pem(KEY),
            "openssl": lambda: pem(KEY, PHRASE),
            "cosign": lambda: cosign_pem(KEY, PHRASE),
            "cosign 1": lambda: cosign_pem(KEY, PHRASE, "COSIGN"),
        }
        monkeypatch.setenv("COSIGN_PASSWORD", PHRASE)
        (tmp_path / "key.pem").write_text(forms[kind]())
        monkeypatch.setenv("OUR_KEY", forms[kind]())
        for name in ("key.pem", "env://OUR_KEY"):
            assert public_text(private_key(name, tmp_path)) == public_text(KEY)

    def test_the_passphrase_may_be_in_another_variable(self, tmp_path, monkeypatch):
        monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
        monkeypatch.setenv("OUR_PHRASE", PHRASE)
        (tmp_path / "key.pem").write_text(cosign_pem(KEY, PHRASE))
        assert private_key("key.pem", tmp_path, "env://OUR_PHRASE")
        with pytest.raises(SigningKeyError, match=r"is encrypted, and \$COSIGN_PASSWORD is not set\. Fix: Set COSIGN_PASSWORD"):
            private_key("key.pem", tmp_path)
        monkeypatch.setenv("OUR_PHRASE", "another")
        for form in (cosign_pem, pem):
            (tmp_path / "key.pem").write_text(form(KEY, PHRASE))
            with pytest.raises(SigningKeyError, match=r"\$OUR_PHRASE does not hold its passphrase\. Fix: Correct OUR_PHRASE"):
                private_key("key.pem", tmp_path, "env://OUR_PHRASE")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("garbage", "no private key in PEM"),
            ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END", "is damaged, or"),
            (public_text(KEY), "is a public key, and a private one signs"),
            (pem(ec.generate_private_key(ec.SECP384R1())), "not an ECDSA P-256 key"),
            (pem(ed25519.Ed25519PrivateKey.generate()), "not an ECDSA P-256 key"),
        ],
    )
    def test_what_is_no_such_key_is_refused_without_showing_it(self, tmp_path, monkeypatch, text, reason):
        monkeypatch.setenv("COSIGN_PASSWORD", PHRASE)
        (tmp_path / "key.pem").write_text(text)
        with pytest.raises(SigningKeyError, match=reason) as caught:
            private_key("key.pem", tmp_path)
        assert text not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_a_key_that_asks_for_all_memory_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COSIGN_PASSWORD", PHRASE)
        body = {
            "kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8, "p": 1}, "salt": ""},
            "cipher": {"name": "nacl/secretbox"},
        }
        text = base64.b64encode(json.dumps(body).encode()).decode()
        (tmp_path / "key.pem").write_text(f"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n{text}\n-----END X-----\n")
        with pytest.raises(SigningKeyError, match="is damaged, or"):
            private_key("key.pem", tmp_path)

    def test_a_missing_key_is_named(self, tmp_path, monkeypatch):
        monkeypatch.delenv("OUR_KEY", raising=False)
        with pytest.raises(SigningKeyError, match=r"cannot be read \(FileNotFoundError\)"):
            private_key("key.pem", tmp_path)
        with pytest.raises(SigningKeyError, match="names the variable OUR_KEY, which is not set"):
            private_key("env://OUR_KEY", tmp_path)

    def test_a_key_that_is_written_down_is_refused_and_not_shown(self):
        for refuse in (lambda: private_key(pem(KEY)), lambda: BakeSpec.parse({"sign": {"key": pem(KEY)}})):
            with pytest.raises((ImageError, ValueError), match="key") as caught:
                refuse()
            assert pem(KEY).splitlines()[1] not in str(caught.value)

    def test_public_keys_are_text_files_or_variables(self, tmp_path, monkeypatch):
        (tmp_path / "cosign.pub").write_text(public_text(KEY))
        monkeypatch.setenv("PUB", public_text(KEY))
        assert {public_text(public_key(name, tmp_path)) for name in ("cosign.pub", "env://PUB", public_text(KEY))} == {
            public_text(KEY)
        }
        (tmp_path / "bad.pub").write_text("no key")
        with pytest.raises(SigningKeyError, match="no public key in PEM"):
            public_key("bad.pub", tmp_path)
