"""Images and artifacts straight to a registry, without a container daemon.

`bake` puts layers of files on top of a base image (or of nothing), `push_artifact` stores plain files as an OCI artifact and
`resolve` looks a reference up. `attach` keeps documents beside an image and `referrers.referrers` lists them. The wire protocol is the
OCI distribution specification 1.1.

Each name is imported when it is first used: the specs of a stack file need a few types of this package, and a command or a preview must
not wait for HTTP and signatures (a tenth of a second) because of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuserve_images.oci.artifact import push_artifact, read_artifact
    from gpuserve_images.oci.baking import BakeResult, bake
    from gpuserve_images.oci.config import ImageConfig
    from gpuserve_images.oci.layers import File, Layer, TarLayer
    from gpuserve_images.oci.referrers import Referrer, attach
    from gpuserve_images.oci.resolving import Resolved, environment, resolve, tag_image
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
    "environment",
    "push_artifact",
    "read_artifact",
    "resolve",
    "sign",
    "tag_image",
    "verify_signature",
]

# No name may be a module's as well: of such a one the import system makes an attribute by itself.
_MODULES = {
    "artifact": ("push_artifact", "read_artifact"),
    "baking": ("BakeResult", "bake"),
    "config": ("ImageConfig",),
    "layers": ("File", "Layer", "TarLayer"),
    "referrers": ("Referrer", "attach"),
    "resolving": ("Resolved", "environment", "resolve", "tag_image"),
    "signing": ("Signature", "SignatureError", "sign", "verify_signature"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a name of this package from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
