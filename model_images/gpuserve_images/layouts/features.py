"""Which server has which feature of `layout:`, so that a wish that none would hear is refused."""

from collections.abc import Callable, Collection, Mapping

from gpuserve_images.layouts.served import LayoutError, Wishes
from gpuserve_images.layouts.spec import LayoutSpec

FEATURES: Mapping[str, tuple[Callable[[LayoutSpec], bool], tuple[str, ...]]] = {
    "layout.response_cache": (lambda options: options.response_cache, ("triton", "mlserver")),
    "layout.warmup: samples": (lambda options: options.warmup == "samples", ("triton",)),
    "layout.versions": (lambda options: options.versions.latest != 1, ("triton", "tfserving", "mlserver")),
    "layout.numbers": (lambda options: bool(options.numbers), ("triton",)),
    "layout.ensemble": (lambda options: options.ensemble is not None, ("triton",)),
    "layout.threads": (
        lambda options: options.threads.model_dump(exclude_none=True) != {},
        ("triton", "tfserving", "torchserve"),
    ),
    "layout.tensorrt": (lambda options: options.tensorrt is not None, ("triton",)),
    "layout.instances by place": (
        lambda options: len(options.instances) > 1 or any(group.kind or group.gpus for group in options.instances),
        ("triton",),
    ),
    "layout.instances": (lambda options: copies(options) > 1, ("triton", "torchserve", "mlserver")),
}
"""Feature -> (whether options ask for it, servers that have it)."""


def require_features(server: str, options: LayoutSpec, *, unheard: Collection[str] = ()) -> None:
    """Refuse options that a server would not hear.

    Args:
        server: Name of the server.
        options: What was said about it.
        unheard: Features that it has and does not hear of as KServe starts it. Default: none.

    Raises:
        LayoutError: Naming the option and the servers that have it.
    """
    for feature, (wanted, servers) in FEATURES.items():
        if (server not in servers or feature in unheard) and wanted(options):
            started = " as KServe starts it" if feature in unheard else ""
            fix = f"Use one of {list(servers)}{' as `runtime`' if started else ''}, or remove the option."
            raise LayoutError(feature, f"is not a feature of {server}{started}", fix)


def copies(options: LayoutSpec) -> int:
    """Return how many copies of the model are wanted in all."""
    return sum(group.count for group in options.instances)


def batch_microseconds(wishes: Wishes) -> int:
    """Return the longest wait for company in microseconds."""
    return round(wishes.batch.queue_delay.seconds * 1e6)
