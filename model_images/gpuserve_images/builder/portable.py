"""What a build leaves on this machine when it goes to the cluster, and what it must therefore say."""

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve_images.oci.keys import public_text
from gpuserve_images.oci.spec import BakeSpec
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.publishing import declared_key

_VARIABLE = "env://"


def require_portable(job: Job) -> None:
    """Check that a build can be sent away, and that its image is known again when it is there.

    Raises:
        SpecError: When it takes a key that must not leave this machine or that lies outside of the model's folder, or when nothing here
            could tell its signed image from somebody else's.
    """
    bake, problems = job.model.bake, list[Problem]()
    if bake.sign is not None and not bake.sign.key.startswith(_VARIABLE):
        reason = "is a file of this machine, and a private key is not sent through a registry"
        fix = "write `key: env://NAME`, with a Secret that has NAME in `builder.secrets`"
        problems.append(Problem("bake.sign.key", bake.sign.key, reason, fix))
    if bake.sign is not None and not bake.sign.public_key:
        reason = "is not given, and the private key is in the cluster alone: nothing here could tell the signed image from somebody else's"
        fix = "name the public half of that key: public_key: cosign.pub (cosign public-key --key, or openssl pkey -pubout)"
        problems.append(Problem("bake.sign.public_key", None, reason, fix))
    if is_key_file(bake.base_key) and not (job.folder / bake.base_key).resolve().is_relative_to(job.folder.resolve()):
        reason, fix = "lies outside of the model's folder", "put the public key beside the model's YAML file"
        problems.append(Problem("bake.base_key", bake.base_key, reason, fix))
    if problems:
        raise SpecError(problems)


def is_key_file(key: str) -> bool:
    """Tell whether a public key is named as a file."""
    return bool(key) and not key.startswith(_VARIABLE) and "BEGIN PUBLIC KEY" not in key


def with_public_key(job: Job) -> BakeSpec:
    """Return how the image is made with the signer's public key written out: the pod has neither our files nor our variables.

    Raises:
        SigningKeyError: When the key cannot be used.
    """
    bake = job.model.bake
    if bake.sign is None or not bake.sign.public_key:
        return bake
    text = public_text(declared_key(bake.sign, job.folder))
    return bake.model_copy(update={"sign": bake.sign.model_copy(update={"public_key": text})})
