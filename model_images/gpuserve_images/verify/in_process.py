"""A model in this process, as load sees it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import cycle

from gpuserve_images.onnx_model.session import Runner
from gpuserve_images.samples.codec import Tensors, batches
from gpuserve_images.verify.load import Call
from gpuserve_images.verify.processor import cores, processor

DISTINCT = 16
"""Batches that callers send in turn: enough that no answer comes from a cache of the last input."""


ENOUGH_BYTES = 2**28
"""Of such batches, of which there are two at least: far more than the last cache of a processor holds, and each caller has its own."""


def distinct_batches(requests: Sequence[Tensors], size: int) -> list[Tensors]:
    """Return up to `DISTINCT` whole batches made of requests, fewer where they are large."""
    found: list[Tensors] = []
    taken = 0
    for batch in batches(requests[: size * DISTINCT], size):
        if len(found) > 1 and taken > ENOUGH_BYTES:
            break
        found.append(batch)
        taken += sum(array.nbytes for array in batch.values())
    return found


class InProcess:
    """A model in this process; callers are threads that share it, as a server's requests do."""

    def __init__(
        self, runner: Runner, requests: Sequence[Tensors], *, threads: int = 0, gpu: str = "", named: str = ""
    ) -> None:
        """Take a model and requests of a batch of 1.

        Args:
            runner: The loaded model.
            requests: What callers send, in turn.
            threads: Threads per operator that it was loaded with, for the report. Default: one per core.
            gpu: What runs it and on which GPU, for the report. Default: ONNX Runtime on this machine's processor.
            named: What it is, for the report, where that is not one model.
        """
        self._runner = runner
        self._requests = requests
        self._threads = threads or cores()
        self._gpu = gpu
        self._named = named

    @property
    def where(self) -> str:
        """Library, threads and processor, or GPU."""
        threads = f"{self._threads} thread{'s' if self._threads > 1 else ''}"
        on_cpu = f"ONNX Runtime {version('onnxruntime')}, {threads} of {cores()} cores, {processor()}"
        return f"{self._named + ' ' if self._named else ''}in process, {self._gpu or on_cpu}"

    @property
    def cores(self) -> int | None:
        """Cores of this machine that it runs on; None for one on a GPU."""
        return None if self._gpu else cores()

    @contextmanager
    def connect(self, batch: int) -> Generator[Call]:
        """Return a caller."""
        waiting = cycle(distinct_batches(self._requests, batch))

        def call() -> None:
            self._runner.run(next(waiting))

        yield call
