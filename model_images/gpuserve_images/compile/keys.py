"""What decides the bytes of an engine, besides the model: so that equal keys mean equal engines."""

from collections.abc import Mapping

from gpuserve_images.compile.profiles import Profile
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.records import sha256_json


def engine_key(  # noqa: PLR0913 - each decides the engine
    *, engine: str, version: str, architecture: str, precision: str, shapes: Mapping[str, Profile], options: CompileSpec
) -> str:
    """Return the key of an engine as 64 hex digits, without building it.

    Whether measured times are kept is no part of it: the next build may choose other kernels, not other answers.

    Args:
        engine: `tensorrt` or `tensorrt-rtx`.
        version: Version of its builder (`builder_version`): engines load in the version that built them.
        architecture: Such as `sm_80`.
        precision: Of the model it is compiled from.
        shapes: Profile of each input.
        options: `compile:` of the build.
    """
    chosen = {name: value for name, value in options.model_dump(mode="json").items() if name != "timing_cache"}
    profiles = {name: shape.plain() for name, shape in shapes.items()}
    parts = {"engine": engine, "version": version, "architecture": architecture, "precision": precision, "profiles": profiles}
    return sha256_json({**parts, "options": chosen})
