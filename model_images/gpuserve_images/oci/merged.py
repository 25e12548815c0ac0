"""Directories that are links in the usual bases, where a layer's files must not go."""

from collections.abc import Sequence

from gpuserve_images.errors import ImageError
from gpuserve_images.oci.layers import Layer, TarLayer

_LINKS = {
    **{f"/{name}": f"/usr/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")},
    "/var/run": "/run",
    "/var/lock": "/run/lock",
}
"""Link -> where it leads, in Debian, Ubuntu, Fedora and what is made from them."""


def refuse_through_links(layers: Sequence[Layer | TarLayer]) -> None:
    """Refuse layers over a base with files in `/lib` and the like.

    Engines that unpack each layer into a folder of its own make a directory of that name, which hides the base's link, and with it the
    dynamic loader: no program of the image would start. A base's own links cannot be known, because its layers are never read.

    Args:
        layers: Layers that go over a base; what a tar holds is its maker's business.

    Raises:
        ImageError: A path goes through such a link.
    """
    for layer in layers:
        for path in [*layer.files, *layer.directories] if isinstance(layer, Layer) else ():
            link = next((link for link in _LINKS if f"{path}/".startswith(f"{link}/")), None)
            if link is not None:
                reason = (
                    f"{link} is a link to {_LINKS[link]} in most bases, and this layer would hide it and all that is behind it"
                )
                raise ImageError("layer", reason, f"Write {_LINKS[link]}{path.removeprefix(link)}", value=path)
