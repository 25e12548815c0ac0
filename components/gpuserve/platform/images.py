"""Which image each request means: known from content alone, before anything is built."""

from gpuserve.kubernetes.capacity import unmeasured
from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.platform.compose import CapacityOf, ImageOf, ImageRequest, scaled_by_capacity
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


def attached_capacities(environment: Environment, image_of: ImageOf, *, file: str, path: str) -> CapacityOf:
    """Return a function from request to the capacity that is attached to its image in the registry.

    Args:
        environment: The validated files.
        image_of: Gives references, see `tagged_images`.
        file: The stack file, for messages.
        path: Dotted path of the platform object in it.

    Raises:
        SpecError: Naming every image that an autoscaler needs a capacity of, and that carries none.
        RegistryError: When the registry cannot be asked.
    """
    from gpuserve_images.verify.attached import attached_capacity

    rates: dict[ImageRequest, float] = {}
    missing: list[Problem] = []
    for request, field in scaled_by_capacity(environment.platform).items():
        found = attached_capacity(image_of(request), environment.models[request.model].slo)
        if found and found.requests_at_slo:
            rates[request] = found.requests_at_slo
        else:
            missing.append(unmeasured(f"{path}.{field}", image_of(request), file))
    if missing:
        raise SpecError(missing)
    return rates.__getitem__
