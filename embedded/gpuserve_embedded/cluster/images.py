"""Images of the system pods: one static program each, baked onto nothing."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster.layout import REGISTRY
from gpuserve_images.oci import File, ImageConfig, Layer, bake, resolve

_RECIPE: Final = "1"
"""Change it with this module: it is part of every image's tag."""

_NOBODY: Final = "65532:65532"
"""The user id of distroless images' ``nonroot``."""


@dataclass(frozen=True)
class SystemImage:
    """An image of one program.

    Attributes:
        name: the repository below ``gpuserve/`` in the local registry.
        program: the tool that it runs (a name that the tools know).
        user: whom it runs as where the pod does not say.
    """

    name: str
    program: str
    user: str = _NOBODY

    @property
    def repository(self) -> str:
        """The image's name without tag or digest, as manifests write it."""
        return f"{REGISTRY}/gpuserve/{self.name}"


PAUSE: Final = SystemImage("pause", "pause")

SYSTEM_IMAGES: Final = (
    PAUSE,
    SystemImage("simulated-gpus", "simulated-gpus", user="0:0"),
    SystemImage("coredns", "coredns"),
    SystemImage("traefik", "traefik"),
    SystemImage("prometheus", "prometheus"),
    SystemImage("prometheus-adapter", "prometheus-adapter"),
)


def ensure_images(programs: Mapping[str, Path], progress: Callable[[str], None]) -> dict[str, str]:
    """Bake what the registry lacks.

    Args:
        programs: the file of each tool, by its name.
        progress: told about each image that has to be baked.

    Returns:
        Reference by digest of each image, by repository.

    Raises:
        RegistryError: the registry refused or does not answer.
    """

    def ensure(image: SystemImage) -> str:
        return _ensure(image, programs[image.program], progress)

    with ThreadPoolExecutor(max_workers=2) as pool:
        references = pool.map(ensure, SYSTEM_IMAGES)
        return dict(zip((image.repository for image in SYSTEM_IMAGES), references, strict=True))


def tag(image: SystemImage, program: Path) -> str:
    """Return the tag of an image: a hash of all that it is made of.

    The program is known by its path, which the tools key by its source, and by its size and time, so that a build in place
    of another counts too without reading 150 MB each time.
    """
    stat = program.stat()
    parts = (_RECIPE, image.name, image.user, str(program), str(stat.st_size), str(stat.st_mtime_ns))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _ensure(image: SystemImage, program: Path, progress: Callable[[str], None]) -> str:
    target = f"{image.repository}:{tag(image, program)}"
    present = resolve(target)
    if present is not None:
        return f"{image.repository}@{present.digest}"
    progress(f"baking the image of {image.name}")
    layer = Layer(files={f"/{image.program}": File(program, mode=0o755)}, directories={"/tmp": 0o1777})  # noqa: S108
    config = ImageConfig(
        entrypoint=[f"/{image.program}"],
        user=image.user,
        working_dir="/",
    )
    return bake(target, [layer], config=config).reference
