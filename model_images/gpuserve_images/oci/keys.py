"""Signing keys: ECDSA P-256 in PEM, as `cosign generate-key-pair` or openssl writes them.

A key is named, never written down: `env://NAME` or a file. Neither the key nor its passphrase appears in a message, a record or the
state of a stack.
"""

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)

from gpuserve_images.errors import ImageError

_VARIABLE = "env://"
# cosign 2 and 3 write the first, cosign 1 wrote the second (sigstore/cosign, pkg/cosign/keys.go).
_COSIGN = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_PASSWORD_VARIABLE = "COSIGN_PASSWORD"  # noqa: S105 - the variable's name, which cosign has chosen
_KEY_BYTES = 32
# scrypt takes 128 * N * r bytes of memory; cosign's own are N = 65536, r = 8. A file must not ask for all the memory there is.
_MOST_SCRYPT_BYTES = 1 << 30
_MAKE_ONE = "Make one with `cosign generate-key-pair` or `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"


class SigningKeyError(ImageError):
    """A signing key is missing or cannot be used."""


def private_key(name: str, folder: Path = Path(), password: str = "") -> EllipticCurvePrivateKey:
    """Load the key that signs.

    Args:
        name: `env://NAME` of a variable that holds the PEM text, or a file.
        folder: Folder that a relative file is in.
        password: `env://NAME` of the passphrase's variable. Default: `COSIGN_PASSWORD`, as for cosign.

    Raises:
        SigningKeyError: It is missing, encrypted with another passphrase, or no P-256 key.
    """
    text = _text(name, folder, "sign.key")
    variable = password.removeprefix(_VARIABLE) or _PASSWORD_VARIABLE
    phrase = os.environ.get(variable, "")
    try:
        if any(kind in text for kind in _COSIGN):
            key: Any = load_der_private_key(_of_cosign(text, phrase, name), None)
        else:
            encrypted = "ENCRYPTED" in text
            key = load_pem_private_key(text.encode(), phrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error, KeyError):
        # Without the cause: a parser's message may quote what it read.
        raise SigningKeyError("sign.key", *_unreadable(text, phrase, variable), value=name) from None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise SigningKeyError("sign.key", "is not an ECDSA P-256 key, which cosign signs with", _MAKE_ONE, value=name)
    return key


def public_key(name: str, folder: Path = Path(), field: str = "public key") -> EllipticCurvePublicKey:
    """Load a key that signatures are checked with.

    Args:
        name: PEM text, `env://NAME` of a variable that holds it, or a file.
        folder: Folder that a relative file is in.
        field: What to name in an error.

    Raises:
        SigningKeyError: It is missing or no P-256 key.
    """
    text = name if "BEGIN PUBLIC KEY" in name else _text(name, folder, field)
    shown = "(PEM text)" if text == name else name
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyError(field, "is no public key in PEM", "Use cosign.pub", value=shown) from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise SigningKeyError(field, "is not an ECDSA P-256 key, which cosign signs with", "Use cosign.pub", value=shown)
    return key


def public_text(key: EllipticCurvePrivateKey | EllipticCurvePublicKey) -> str:
    """Return the public half in PEM."""
    public = key.public_key() if isinstance(key, EllipticCurvePrivateKey) else key
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(key: EllipticCurvePrivateKey | EllipticCurvePublicKey) -> str:
    """Return enough of a public key to tell it from others."""
    return f"key sha256:{hashlib.sha256(public_text(key).encode()).hexdigest()[:16]}"


def _text(name: str, folder: Path, field: str) -> str:
    if "PRIVATE KEY" in name:
        # Not even its length: what was pasted stands in a file that is shared.
        reason = "is the key itself, which would be in the state of the stack"
        raise SigningKeyError(
            field, reason, "Put it into a file or a variable, name that, and make a new key: this one was written down"
        )
    if name.startswith(_VARIABLE):
        variable = name.removeprefix(_VARIABLE)
        text = os.environ.get(variable)
        if not text:
            raise SigningKeyError(
                field, f"names the variable {variable}, which is not set", f"Set {variable} to the key's PEM text", value=name
            )
        return text
    path = folder / name.removeprefix("file://")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyError(
            field, f"cannot be read ({type(error).__name__})", "Name the key's PEM file", value=name
        ) from None


def _unreadable(text: str, phrase: str, variable: str) -> tuple[str, str]:
    """Return why a private key cannot be read, and what to do."""
    if "BEGIN PUBLIC KEY" in text:
        return "is a public key, and a private one signs", "Name its other half, such as cosign.key"
    if "ENCRYPTED" not in text:
        return "is no private key in PEM", _MAKE_ONE
    if not phrase:
        return (
            f"is encrypted, and ${variable} is not set",
            f"Set {variable} to the key's passphrase (`sign.password` names another variable)",
        )
    return (
        f"is damaged, or ${variable} does not hold its passphrase",
        f"Correct {variable}, or name another variable as `sign.password`",
    )


def _of_cosign(text: str, phrase: str, name: str) -> bytes:
    """Return the PKCS #8 key in cosign's own encrypted form: scrypt, then NaCl's secretbox (go-securesystemslib, encrypted)."""
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError as error:
        fix = "Install it: pip install 'gpuserve[signing]'. Or use a key in plain PEM"
        raise SigningKeyError(
            "sign.key", "is encrypted by cosign, and PyNaCl, which decrypts it, is not installed", fix, value=name
        ) from error
    lines = [line for line in text.splitlines() if line and not line.startswith("-----") and ":" not in line]
    data = cast("dict[str, Any]", json.loads(base64.b64decode("".join(lines))))
    kdf, cipher = data["kdf"], data["cipher"]
    if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
        raise ValueError(kdf["name"])
    parameters = kdf["params"]
    if 128 * int(parameters["N"]) * int(parameters["r"]) > _MOST_SCRYPT_BYTES:
        raise ValueError(parameters["N"])
    scrypt = Scrypt(
        salt=base64.b64decode(kdf["salt"]),
        length=_KEY_BYTES,
        n=int(parameters["N"]),
        r=int(parameters["r"]),
        p=int(parameters["p"]),
    )
    secret = scrypt.derive(phrase.encode())
    try:
        return SecretBox(secret).decrypt(base64.b64decode(data["ciphertext"]), base64.b64decode(cipher["nonce"]))
    except CryptoError:
        raise ValueError(name) from None
