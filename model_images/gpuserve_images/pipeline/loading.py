"""Whether the server of an image will load the engine in it: asked before hours of making it."""

from gpuserve_images.bases.serving import tensorrt_of
from gpuserve_images.compile.builders import builder_version, wheel
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.matching import loads
from gpuserve_images.pipeline.chain import Chain


def require_loading_server(chain: Chain) -> None:
    """Check that the TensorRT of a build's base loads what the TensorRT of this machine makes; a base that names none is taken as it is.

    Raises:
        CompileError: When it does not.
        RegistryError: When the registry lacks the base, refused or is down.
    """
    job = chain.job
    if job.spec.engine != "tensorrt" or chain.base is None:
        return
    builder, server = builder_version(job.spec.engine), tensorrt_of(chain.base, job.model.bake.platforms)
    if server and not loads(server, builder, job.spec.compile):
        reason = f"of version {builder} makes engines that the server would not load: {chain.base} has TensorRT {server}"
        install = f"pip install '{wheel('tensorrt-cu{cuda}', server.partition('+')[0])}'"
        fix = f"Install the server's version ({install}), or give the build a `base:` with TensorRT {builder}."
        raise CompileError("engine", reason, fix, value=job.spec.engine)
