"""The local store of stages: made once per key, whole or not there, never removed under a build's feet."""

import errno
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from e2e_stage_process import after, writes

from gpuserve_images.pipeline.folders import StoreError
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Source, Stage, Work
from gpuserve_images.pipeline.store import StageStore, read_kept, write_record
from gpuserve_images.records import StageRecord

SCRIPT = Path(__file__).parents[2] / "e2e" / "e2e_stage_process.py"


def process(cache: Path, counter: Path, wait: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(cache), str(counter), str(wait)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_finished_stage_is_not_run_again_and_needs_no_other(tmp_path):
    counter = tmp_path / "counter"
    for origin in ("made", "local"):
        with Runner(tmp_path / "cache") as runner:
            done = runner.get(after(counter))
            assert (done.file.read_text(), done.origin, runner.worked) == ("one two", origin, origin == "made")
            assert len(runner.done) == (2 if origin == "made" else 1)
    assert counter.read_text().split("\n") == ["one", "one two", ""]


def test_a_stage_whose_bytes_were_changed_is_made_anew(tmp_path, monkeypatch):
    counter = tmp_path / "counter"
    with Runner(tmp_path / "cache") as runner:
        file = runner.get(after(counter)).file
    before = file.stat()
    file.write_text("one twO")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    # As another process sees it: this one has read the file, and remembers it.
    monkeypatch.setattr(
        "gpuserve_images.pipeline.store.sha256_file", lambda path: sha256(path.read_bytes()).hexdigest(), raising=False
    )
    for origin in ("made", "local"):
        with Runner(tmp_path / "cache") as runner:
            done = runner.get(after(counter))
            assert (done.file.read_text(), done.origin) == ("one two", origin)
    assert counter.read_text().split("\n") == ["one", "one two", "one two", ""]


def test_a_disk_that_gives_back_other_bytes_is_named(tmp_path, monkeypatch):
    numbers = iter(range(100))
    monkeypatch.setattr("gpuserve_images.pipeline.store.sha256_file", lambda _: str(next(numbers)), raising=False)
    with (
        Runner(tmp_path / "cache") as runner,
        pytest.raises(StoreError, match=r"other bytes than were written.*Check that disk"),
    ):
        runner.get(after(tmp_path / "counter"))


@pytest.mark.slow
def test_two_processes_do_the_work_of_one_key_once(tmp_path):
    both = [process(tmp_path / "cache", tmp_path / "counter", 0.5) for _ in range(2)]
    assert sorted(one.communicate(timeout=60)[0].strip() for one in both) == ["local", "made"]
    assert (tmp_path / "counter").read_text() == "one\none two\n"


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_half_done_and_the_next_goes_on_where_it_was(tmp_path):
    cache, counter = tmp_path / "cache", tmp_path / "counter"
    with process(cache, counter, 60) as killed:
        while not list(cache.glob("stages/second/.*/model.onnx")):
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    named = [path.name for path in (cache / "stages/second").iterdir() if not path.name.startswith(".")]
    assert named == [f"{after(counter).key}.lock"]
    with Runner(cache) as runner:
        assert runner.get(after(counter)).origin == "made"
    assert counter.read_text() == "one\none two\none two\n"
    assert not list(cache.glob("stages/second/.*"))


def test_a_failed_stage_leaves_nothing(tmp_path):
    def fail(work: Work) -> StageRecord:
        (work.out / "half").touch()
        raise ValueError("no")

    with Runner(tmp_path) as runner, pytest.raises(ValueError, match="no"):
        runner.get(Stage("bad", fail))
    assert [path.suffix for path in (tmp_path / "stages/bad").iterdir()] == [".lock"]


def test_a_stage_that_lost_a_file_is_made_again(tmp_path):
    stage = Stage("first", writes("one"))
    with Runner(tmp_path) as runner:
        file = runner.get(stage).file
    file.write_text("")
    with Runner(tmp_path) as runner:
        assert runner.get(stage).file.read_text() == "one"
    file.unlink()
    with Runner(tmp_path) as runner:
        assert runner.get(stage).origin == "made"


def test_what_a_build_uses_cannot_be_taken_alone(tmp_path):
    stage = Stage("first", writes("one"))
    with Runner(tmp_path) as runner:
        folder = runner.get(stage).folder
        lock = Lock(folder.with_name(f"{folder.name}.lock"))
        assert not lock.try_alone()
    assert lock.try_alone()
    lock.remove()


def test_a_removed_lock_file_protects_nothing(tmp_path):
    path = tmp_path / "key.lock"
    first, second = Lock(path), Lock(path)
    first.alone()
    path.unlink()
    assert second.try_alone()
    assert not Lock(path).try_alone()


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot be used")])
def test_a_full_or_closed_disk_says_what_to_do(tmp_path, number, words):
    def fail(work: Work) -> StageRecord:
        raise OSError(number, os.strerror(number))

    with Runner(tmp_path) as runner, pytest.raises(StoreError, match=f"{words}.*Fix: "):
        runner.get(Stage("big", fail))
    assert not list(tmp_path.glob("stages/big/.*"))


def test_another_programs_error_stays_as_it_is(tmp_path):
    def fail(work: Work) -> StageRecord:
        raise FileNotFoundError(errno.ENOENT, "gone", "model.bin")

    with Runner(tmp_path) as runner, pytest.raises(FileNotFoundError, match="gone"):
        runner.get(Stage("big", fail))


def test_files_that_lie_somewhere_are_not_copied(tmp_path):
    (tmp_path / "mine.onnx").write_text("mine")
    source = Source("digest", lambda _: (tmp_path, "mine.onnx", StageRecord(stage="source")))
    stage = Stage("read", lambda work: writes(work.before("model").file.read_text())(work), after={"model": source})
    with Runner(tmp_path / "cache") as runner:
        assert runner.get(stage).file.read_text() == "mine"
        assert runner.get(source).file == tmp_path / "mine.onnx"
    assert [path.name for path in (tmp_path / "cache/stages").iterdir()] == ["read"]


def test_a_record_knows_every_file_and_is_read_back(tmp_path):
    folder = tmp_path / "key"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_bytes(b"123")
    write_record(folder, "key", StageRecord(stage="s"), 1.5)
    kept = read_kept(folder)
    assert kept is not None
    assert (kept.files, kept.seconds, kept.record.stage) == ({"deep/file": 3}, 1.5, "s")
    assert read_kept(tmp_path / "nothing") is None
    (folder / "record.json").write_text("{")
    assert read_kept(folder) is None


def test_the_store_lists_what_is_finished_and_nothing_else(tmp_path):
    with Runner(tmp_path) as runner:
        runner.get(after(tmp_path / "counter"))
    half = tmp_path / "stages/first/.x.half"
    half.mkdir()
    write_record(half, "x", StageRecord(stage="s"), 0)
    assert [(entry.stage, entry.bytes) for entry in StageStore(tmp_path).entries()] == [("first", 3), ("second", 7)]


def test_time_spent_waiting_for_another_stage_is_not_the_stages_own(tmp_path):
    slow = Stage("slow", writes("one", wait=0.2))
    stage = Stage("quick", lambda work: writes(work.before("model").file.read_text())(work), after={"model": slow})
    with Runner(tmp_path) as runner:
        assert runner.get(stage).seconds < 0.1 < runner.get(slow).seconds
