"""What a model's YAML says about its image."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, model_validator

from gpuserve.kubernetes.spec import Spec, plain
from gpuserve.kubernetes.units import WHOLE
from gpuserve_images.oci.compression import Compression, identity
from gpuserve_images.oci.config import CREATED
from gpuserve_images.oci.layers import UPLOADS

NON_ROOT = "1000:1000"
"""User of an image whose base would run as root: Triton's own image has a user of that number, and model files are readable by all."""

_ANNOTATION = "org.opencontainers.image."
_MOST_UPLOADS = 32
_PLATFORM = r"^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$"
_ENVIRONMENT = re.compile(r"env://[A-Za-z_][A-Za-z0-9_]*")


class SignSpec(Spec):
    """Who signs.

    Attributes:
        key: ECDSA P-256 private key, as `env://NAME` of a variable that holds its PEM text, or a file, relative to the YAML file. The
            key itself must not be written here.
        password: `env://NAME` of the variable with its passphrase. Default: `COSIGN_PASSWORD`, as for cosign.
        public_key: The public half of that key, as PEM text, `env://NAME` or a file, relative to the YAML file. An image that the
            registry has already is checked with it, also where the private key is not at hand; builder `job` requires it, because its
            private key is in a Secret of the cluster alone. Default: the public half of `key`, which must be at hand then.
    """

    key: Annotated[str, Field(min_length=1)]
    password: str = ""
    public_key: str = ""

    @model_validator(mode="after")
    def _names_only(self) -> Self:
        if "PRIVATE KEY" in self.key + self.public_key:
            msg = "the key itself is written down; put it into a file or a variable and name that (and make a new key: this one is known now)"
            raise ValueError(msg)
        if self.password and not _ENVIRONMENT.fullmatch(self.password):
            msg = "the passphrase itself is written down; write `env://NAME` of a variable that holds it"
            raise ValueError(msg)
        return self


class AboutSpec(Spec):
    """What the image says about itself (`org.opencontainers.image.*`, as annotations and labels).

    Attributes:
        title: Name for people. Default: the model's name.
        description: What it is.
        version: Version of the model.
        revision: Commit of its source.
        source: Address of its source.
        url: Address of more about it.
        vendor: Who made it.
        licenses: Licences of the model, as SPDX writes them, such as `Apache-2.0`.
    """

    title: str = ""
    description: str = ""
    version: str = ""
    revision: str = ""
    source: str = ""
    url: str = ""
    vendor: str = ""
    licenses: str = ""

    def notes(self, model: str) -> dict[str, str]:
        """Return annotations, which are good as labels too: without a title, the model's name; empty texts are left out.

        The time is fixed, so that the digest is the same on any day.
        """
        texts = {**self.model_dump(), "title": self.title or model, "created": CREATED}
        return {_ANNOTATION + name: text for name, text in texts.items() if text}


class BakeSpec(Spec):
    """How the image is made.

    Attributes:
        form: `image` (default), or `artifact`: the files as an OCI artifact, for builds on `base: scratch`. An `oci` source reads
            both; a Kubernetes image volume mounts an image everywhere, and an artifact where the runtime knows them.
        compression: `none` (default: weights hardly compress), `zstd` for lines below some 300 Mbit/s, or `gzip` for engines that
            know nothing newer.
        platforms: Platforms to take from a base for several, such as `linux/amd64`; a base for one is refused for another.
            Default: all of them, which a base on another registry makes as many times as large to send.
        uploads: Blobs sent at once. Default 4.
        user: User that the server runs as, `uid[:gid]`. Default: the base's, or 1000:1000 where that is root.
        about: What the image says about itself.
        bill: Whether a bill of materials (CycloneDX) is attached to the image. Default true.
        provenance: Whether a statement of its provenance (in-toto, SLSA) is attached to the image. Default true.
        sign: Who signs the image and its documents. Default: nobody.
        base_key: Public key that the base image must be signed by, as PEM text, `env://NAME` or a file, relative to the YAML file.
            Default: any base will do.
    """

    form: Literal["image", "artifact"] = "image"
    compression: Compression = "none"
    platforms: tuple[Annotated[str, Field(pattern=_PLATFORM)], ...] = ()
    uploads: Annotated[int, Field(ge=1, le=_MOST_UPLOADS, strict=True), WHOLE] = UPLOADS
    user: Annotated[str, Field(pattern=r"^([0-9]+(:[0-9]+)?)?$")] = ""
    about: AboutSpec = AboutSpec()
    bill: StrictBool = True
    provenance: StrictBool = True
    sign: SignSpec | None = None
    base_key: str = ""

    def identity(self) -> dict[str, Any]:
        """Return what of this decides an image's content, for its key; with a signer, the image of another name is another one."""
        data = plain(self)
        if data["sign"]:
            # What the image is checked with is not in it.
            data["sign"] = {name: value for name, value in data["sign"].items() if name != "public_key"}
        # How many uploads there are at once changes nothing.
        content = {name: value for name, value in data.items() if name != "uploads"}
        return {**content, "compression": identity(self.compression)}
