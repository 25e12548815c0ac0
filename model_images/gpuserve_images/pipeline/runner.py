"""Runs the stages of a build: each once, and only those that are needed and nobody has run before."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from gpuserve_images.errors import ImageError
from gpuserve_images.pipeline.downloads import use_lock
from gpuserve_images.pipeline.folders import StoreError
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.pipeline.sharing import WORTH_BYTES_PER_SECOND, StageShare
from gpuserve_images.pipeline.stage import MODEL, Done, Origin, Source, Stage, Work
from gpuserve_images.pipeline.store import StageStore, read_kept, write_record
from gpuserve_images.records import Progress, StageRecord, silent


class Runner:
    """One build's view of the stages; what it uses stays where it is until it is left.

    Attributes:
        done: The stages that were asked for, in the order in which they were finished.
    """

    def __init__(self, root: Path, share: StageShare | None = None, progress: Progress = silent) -> None:
        """Run nothing yet.

        Args:
            root: Folder of finished stages and of what else is kept, see `cache_folder`.
            share: The registry's stages. Default: this machine's alone.
            progress: Told about each stage.
        """
        self.done: dict[str, Done] = {}
        self._store = StageStore(root)
        self._share = share
        self._progress = progress

    def __enter__(self) -> Self:
        self._store.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._store.__exit__(kind, error, traceback)

    @property
    def worked(self) -> bool:
        """Whether any stage ran, here and now."""
        return any(done.origin == "made" and done.stage != "source" for done in self.done.values())

    def get(self, stage: Stage | Source) -> Done:
        """Return a stage's result: from this run, the local store or the registry, else by running it and what it needs."""
        if stage.key not in self.done:
            self.done[stage.key] = self._locate(stage) if isinstance(stage, Source) else self._obtain(stage)
        return self.done[stage.key]

    def require_ready(self, stage: Stage) -> None:
        """Refuse a stage that this machine cannot run and nobody has run before, so that nothing is begun for it.

        Raises:
            ImageError: What the stage says that it needs.
        """
        refusal = self.refusal(stage)
        if refusal is not None:
            raise refusal

    def refusal(self, stage: Stage) -> ImageError | None:
        """Return why this machine cannot run a stage that nobody has run before; None where it can, or need not."""
        if stage.ready is None:
            return None
        try:
            stage.ready()
        except ImageError as error:
            shared = self._share is not None and stage.shared and self._share.has(stage.name, stage.key)
            return None if shared or self._store.has(stage.name, stage.key) else error
        return None

    def kept(self, stage: Stage) -> StageRecord | None:
        """Return what a stage did that this machine keeps; None where it does not, and then it is neither fetched nor run."""
        return self._store.record(stage.name, stage.key)

    def _locate(self, source: Source) -> Done:
        self._progress(source.name, 0, 0)
        folder, main, record = source.locate(self._progress)
        used = use_lock(folder)
        if used is not None:
            self._store.hold(Lock(used))
        return Done(source.name, source.key, folder, record, "made", 0.0, main)

    def _obtain(self, stage: Stage) -> Done:
        share = self._share if stage.shared else None
        origins: list[Origin] = ["local"]

        def make(place: Path) -> None:
            if share and share.take(stage.name, stage.key, place, self._progress):
                origins.append("registry")
                return
            origins.append("made")
            self._run(stage, _emptied(place))

        folder = self._store.obtain(
            stage.name, stage.key, make, lambda: self._progress(f"{stage.name}: another build is at it", 0, 0)
        )
        kept = read_kept(folder)
        if kept is None:
            raise StoreError(
                str(folder), "was removed while a build used it", "Run it again, and leave that folder to gpuserve."
            )
        if share and origins[-1] == "made" and kept.seconds * WORTH_BYTES_PER_SECOND > sum(kept.files.values()):
            share.give(stage.name, stage.key, folder, self._progress)
        return Done(stage.name, stage.key, folder, kept.record, origins[-1], kept.seconds)

    def _run(self, stage: Stage, place: Path) -> None:
        self._progress(stage.name, 0, 0)
        clock = _Clock()
        try:
            record = stage.run(Work(place, lambda role: clock.paused(lambda: self.get(stage.after[role])), self._progress))
        except ImageError as error:
            error.rename(self._names(stage, place))
            raise
        write_record(place, stage.key, record, clock.seconds())

    def _names(self, stage: Stage, place: Path) -> dict[str, str]:
        """Return what to call the models that a stage reads and writes, by path: nobody knows the files of the cache."""
        stages = stage.chain()
        folders = {key: self.done[key].folder for key in stages if key in self.done} | {stage.key: place}
        names = {str(folder / MODEL): f"{_origin(stages[key])} after {stages[key].name}" for key, folder in folders.items()}
        sources = (before for each in stages.values() for before in each.after.values() if isinstance(before, Source))
        downloads = {
            str(self.done[each.key].file): each.shown for each in sources if each.key in self.done and "://" in each.shown
        }
        return names | downloads


def _origin(stage: Stage | Source) -> str:
    """Return what people call the file that a stage's model comes from."""
    if isinstance(stage, Source):
        return stage.shown
    return next((_origin(before) for before in stage.after.values()), "the model")


class _Clock:
    """A stage's own time, without that of the stages it waits for."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def paused(self, call: Callable[[], Done]) -> Done:
        before = time.monotonic()
        try:
            return call()
        finally:
            self._started += time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._started


def _emptied(place: Path) -> Path:
    """Remove what a broken download left in a folder."""
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return place
