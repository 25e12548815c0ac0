"""Stages in a process of their own, for tests that race two of them or kill one: `python e2e_stage_process.py CACHE COUNTER WAIT`."""

import sys
import time
from pathlib import Path

from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Stage, Work
from gpuserve_images.records import StageRecord


def writes(text: str, counter: Path | None = None, wait: float = 0.0):
    """What a stage runs that writes a file, and a line to a counter that all processes see."""

    def run(work: Work) -> StageRecord:
        if counter:
            with counter.open("a") as lines:
                lines.write(f"{text}\n")
        (work.out / "model.onnx").write_text(text)
        time.sleep(wait)
        return StageRecord(stage="write")

    return run


def after(counter: Path, wait: float = 0.0) -> Stage:
    """A stage that appends to what the stage before it wrote."""
    first = Stage("first", writes("one", counter))

    def run(work: Work) -> StageRecord:
        text = work.before("model").file.read_text()
        return writes(f"{text} two", counter, wait)(work)

    return Stage("second", run, after={"model": first})


if __name__ == "__main__":
    cache, counter, wait = sys.argv[1:]
    with Runner(Path(cache)) as runner:
        print(runner.get(after(Path(counter), float(wait))).origin)  # noqa: T201 - what the test reads
