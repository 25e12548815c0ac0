"""Which image each request means: known from content alone, before anything is built."""

from gpuserve.platform.compose import ImageOf, ImageRequest
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
