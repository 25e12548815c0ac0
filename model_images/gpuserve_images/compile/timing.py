"""Measured kernel times, kept from one build to the next: on a GPU they are most of a build's time."""

import fcntl
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import Any

from gpuserve_images import folders
from gpuserve_images.compile.builders import engine_of
from gpuserve_images.compile.spec import LACKS, CompileSpec


def caches_folder() -> Path:
    """Return where timing caches are kept: `$XDG_CACHE_HOME/gpuserve/timing`."""
    return folders.cache("timing")


def wanted(trt: ModuleType, options: CompileSpec) -> bool:
    """Return whether a build keeps times: as it says, else wherever the builder has such a cache."""
    has = "timing_cache" not in LACKS.get(engine_of(trt), {})
    return has if options.timing_cache is None else options.timing_cache


class TimingCache:
    """The kept times of one builder version on one GPU model; two builds at once lose nothing of each other's.

    A build reads what is there and goes to work without a lock; afterwards it joins its own times with what another build has
    written meanwhile, under a lock, and puts the result in place whole.
    """

    def __init__(self, trt: ModuleType, folder: Path, *, architecture: str, gpu: str) -> None:
        """Name the file.

        Args:
            trt: The builder.
            folder: Folder of the caches.
            architecture: Such as `sm_80`.
            gpu: Name of the GPU that times are measured on: two models of one architecture differ in their times.
        """
        self._trt = trt
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{trt.__name__}-{trt.__version__}-{architecture}-{gpu}".strip())
        self.path = folder / f"{name.strip('-')}.cache"

    def load(self, config: Any) -> Any:
        """Hand the kept times to a configuration, and return the builder's cache; empty when nothing fitting was kept."""
        kept = self.path.read_bytes() if self.path.is_file() else b""
        cache = config.create_timing_cache(kept) if kept else None
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            # Damaged, or of another driver: a cache is worth nothing then, and no reason to stop.
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache

    def keep(self, config: Any) -> int:
        """Join the times of a finished build with the kept ones; return the size of the file in bytes."""
        mine = config.get_timing_cache()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.path.is_file():
                other = config.create_timing_cache(self.path.read_bytes())
                if other is not None:
                    mine.combine(other, ignore_mismatch=False)
            data = bytes(memoryview(mine.serialize()))
            with NamedTemporaryFile(dir=self.path.parent, delete=False) as stream:
                stream.write(data)
            Path(stream.name).replace(self.path)
        return len(data)

    @contextmanager
    def _locked(self) -> Generator[None]:
        with self.path.with_suffix(".lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
