"""Images and artifacts straight to a registry, without a container daemon.

`bake` puts layers of files on top of a base image (or of nothing), `push_artifact` stores plain files as an OCI artifact and
`resolve` looks a reference up. `attach` keeps documents beside an image and `referrers` lists them. The wire protocol is the OCI
distribution specification 1.1.
"""

from gpuserve_images.oci.artifact import push_artifact, read_artifact
from gpuserve_images.oci.baking import BakeResult, bake
from gpuserve_images.oci.config import ImageConfig
from gpuserve_images.oci.layers import File, Layer, TarLayer
from gpuserve_images.oci.referrers import Referrer, attach, referrers
from gpuserve_images.oci.resolving import Resolved, resolve, tag_image
from gpuserve_images.oci.signing import Signature, SignatureError, sign, verify_signature

__all__ = [
    "BakeResult",
    "File",
    "ImageConfig",
    "Layer",
    "Referrer",
    "Resolved",
    "Signature",
    "SignatureError",
    "TarLayer",
    "attach",
    "bake",
    "push_artifact",
    "read_artifact",
    "referrers",
    "resolve",
    "sign",
    "tag_image",
    "verify_signature",
]
