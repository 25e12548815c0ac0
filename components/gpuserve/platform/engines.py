"""Engines run on the GPU that they were built for: a pool with another one is told before anything is built."""

from collections.abc import Iterator, Mapping

from gpuserve.kubernetes.errors import Problem
from gpuserve.node_pool.accelerators import accelerator
from gpuserve.platform.spec import PlatformSpec, ServiceSpec
from gpuserve_images.compile.matching import misfit
from gpuserve_images.compile.spec import COMPILED
from gpuserve_images.spec import ModelSpec


def engines_fit_the_pool(
    at: str, service: ServiceSpec, platform: PlatformSpec, models: Mapping[str, ModelSpec]
) -> Iterator[Problem]:
    """Yield the builds of a service whose engines its pool cannot run.

    A build that is only made ahead (`prebuild`) is judged on real GPUs alone: on a simulated pool all its engines are built.
    """
    model, pool = models.get(service.model_name), platform.pools_by_name.get(service.pool)
    if model is None or pool is None:
        return
    gpu = accelerator(pool.accelerator)
    named = [(f"{at}.versions[{index}].build", version.build) for index, version in enumerate(service.versions)]
    if not gpu.simulated:
        named += [(f"{at}.prebuild[{index}]", build) for index, build in enumerate(service.prebuild)]
    for field, name in named:
        build = model.builds.get(name)
        if build is None or build.engine not in COMPILED:
            continue
        wrong = misfit(build.engine, build.architectures, gpu.architecture, build.compile)
        if wrong is not None:
            reason, fix = wrong
            yield Problem(field, name, f"{reason} (pool {pool.name!r}, accelerator {pool.accelerator})", fix)
