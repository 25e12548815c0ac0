"""Publishing: the image by digest, its documents, its signature, and the tag last, so that a tag means that all of it is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from gpuserve_images.oci import File, attach, tag_image
from gpuserve_images.oci.baking import BakeResult
from gpuserve_images.oci.keys import SigningKeyError, fingerprint, private_key, public_key, public_text
from gpuserve_images.oci.provenance import PREDICATE, PREDICATE_ANNOTATION, STATEMENT, provenance
from gpuserve_images.oci.signing import sign, verify_signature
from gpuserve_images.oci.spec import BakeSpec, SignSpec
from gpuserve_images.records import StageRecord, sha256_file


@dataclass(frozen=True)
class Facts:
    """What the documents about an image say.

    Attributes:
        key: Content key of the build.
        parameters: What was asked for, as plain data.
        records: What the stages did.
        files: Path in the image -> file.
        base: Base image by digest, or empty.
    """

    key: str
    parameters: Mapping[str, Any]
    records: Sequence[StageRecord]
    files: Mapping[str, Path]
    base: str = ""


def publish(  # noqa: PLR0913 - keywords of one call
    tag: str,
    push: Callable[[str], BakeResult],
    facts: Facts,
    spec: BakeSpec,
    folder: Path,
    *,
    report: Callable[[str], str] | None = None,
) -> BakeResult:
    """Push an image, attach its documents, sign all of it, and give it its tag.

    A build that is killed on the way leaves no tag, and the next one finds everything that was sent.

    Args:
        tag: Address by tag.
        push: Pushes the image to a repository without a tag.
        facts: What the documents say.
        spec: Which documents there are, and who signs.
        folder: Folder of the model's YAML file, which key files are relative to.
        report: Attaches another document to the image, and returns its reference.

    Raises:
        SigningKeyError: The key cannot be used; nothing was sent.
        RegistryError: The registry refused or is down.
    """
    key = signing_key(spec, folder)
    pushed = push(tag.rpartition(":")[0])
    signed = [pushed.reference]
    if report:
        signed.append(report(pushed.reference))
    if spec.bill:
        # Half a second of imports that nothing else needs.
        from gpuserve_images.oci.bill import BILL, bill_of_materials

        hashes = {path: sha256_file(file) for path, file in facts.files.items()}
        bill = bill_of_materials(pushed.reference, hashes, facts.records, base=facts.base, licence=spec.about.licenses)
        files = {"bill.cdx.json": File(bill, media_type=BILL)}
        signed.append(attach(pushed.reference, files, artifact_type=BILL, replace=True).reference)
    if spec.provenance:
        statement = provenance(pushed.reference, facts.parameters, facts.records, key=facts.key, base=facts.base)
        files = {"provenance.json": File(statement, media_type=STATEMENT)}
        notes = {PREDICATE_ANNOTATION: PREDICATE}
        signed.append(attach(pushed.reference, files, artifact_type=STATEMENT, annotations=notes, replace=True).reference)
    if key:
        for reference in signed:
            sign(reference, key)
    tag_image(pushed.reference, tag)
    return pushed


def signing_key(spec: BakeSpec, folder: Path) -> EllipticCurvePrivateKey | None:
    """Load the key that signs, or None where nobody does.

    Raises:
        SigningKeyError: The key cannot be used, or is another one than that of the public key which the model names.
    """
    if spec.sign is None:
        return None
    key = private_key(spec.sign.key, folder, spec.sign.password)
    if spec.sign.public_key:
        public = declared_key(spec.sign, folder)
        if public_text(public) != public_text(key):
            reason = f"is not the private half of sign.public_key ({fingerprint(public)}, and this one's is {fingerprint(key)})"
            fix = "Name the two halves of one key: nobody could use an image that was signed with another"
            raise SigningKeyError("sign.key", reason, fix, value=spec.sign.key)
    return key


def declared_key(spec: SignSpec, folder: Path) -> EllipticCurvePublicKey:
    """Load the public key that a model names.

    Raises:
        SigningKeyError: It is missing, or no P-256 key.
    """
    return public_key(spec.public_key, folder, "sign.public_key")


def require_signature(image: str, spec: BakeSpec, folder: Path) -> None:
    """Check that an image found in the registry is signed by the model's signer; nothing to do without one.

    The public key that the model names is enough; without one the private key must be at hand.

    Raises:
        SignatureError: It is not: it was pushed by somebody else.
        SigningKeyError: The key cannot be used.
    """
    if spec.sign and spec.sign.public_key:
        verify_signature(image, declared_key(spec.sign, folder))
    elif key := signing_key(spec, folder):
        verify_signature(image, key.public_key())


def require_base_signature(base: str, spec: BakeSpec, folder: Path) -> None:
    """Check that a base image is signed by the key that the model demands; nothing to do without one.

    Raises:
        SignatureError: It is not.
        SigningKeyError: The key cannot be used.
    """
    if spec.base_key:
        verify_signature(base, public_key(spec.base_key, folder))
