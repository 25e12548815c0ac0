"""Which image each request means: known from content alone, before anything is built."""

from gpuserve.autoscaling.manifests import target_rate
from gpuserve.platform.compose import CapacityOf, ImageOf, ImageRequest
from gpuserve.platform.load import Environment
from gpuserve_images.pipeline.key import content_key, image_tag


def tagged_images(environment: Environment) -> ImageOf:
    """Return a function from request to image reference by content tag.

    The tag is a hash of everything that goes into the image, so it is known without building, and it never means two
    things. ``pulumi up`` replaces it by the registry's digest.
    """
    known: dict[ImageRequest, str] = {}

    def image_of(request: ImageRequest) -> str:
        if request not in known:
            model = environment.models[request.model]
            key = content_key(model, request.build, folder=environment.folder, target=request.target)
            known[request] = f"{environment.platform.registry}/{model.name}:{image_tag(key)}"
        return known[request]

    return image_of


def attached_capacities(image_of: ImageOf) -> CapacityOf:
    """Return a function from request to the capacity that is attached to its image in the registry.

    The function raises `SpecError` where nothing usable is attached, and `RegistryError` where the registry cannot be asked.

    Args:
        image_of: Gives references, see `tagged_images`.
    """

    def capacity_of(request: ImageRequest) -> float:
        from gpuserve_images.verify.attached import attached_capacity

        found = attached_capacity(image_of(request))
        rate = found.requests_at_slo if found else None
        # The same refusal as when the engine knows the capacity.
        target_rate(request.name, rate)
        return rate or 0.0

    return capacity_of
