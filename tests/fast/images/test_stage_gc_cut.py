"""Collections that are killed, and two at once."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from gpuserve_images.pipeline import inventory
from gpuserve_images.pipeline.inventory import Wanted, collect
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Stage
from gpuserve_images.records import StageRecord
from gpuserve_images.sources.cache import SourceCache

ALL = Wanted(keep_bytes=0)
KEY = "a" * 64


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


def fill(folder):
    for number in range(3):
        (folder / f"{number}").write_bytes(b"x")


def make_stage(work):
    fill(work.out)
    return StageRecord(stage="s")


def killed_collection(root, monkeypatch):
    """Collect all, and die where the first folder has its other name and all of its files."""

    def die(_folder):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", die)
        with pytest.raises(Killed):
            collect(root, root, ALL)


@pytest.mark.parametrize("kind", ["stage", "source", "cut download"])
def test_what_a_killed_collection_left_goes_with_the_next_one(tmp_path, monkeypatch, kind):
    if kind == "stage":
        with Runner(tmp_path) as runner:
            runner.get(Stage("s", make_stage))
    elif kind == "source":
        SourceCache(tmp_path).obtain(KEY, fill)
    else:
        files = tmp_path / "partial" / KEY / "files"
        files.mkdir(parents=True)
        fill(files)
    killed_collection(tmp_path, monkeypatch)
    assert list(tmp_path.rglob("*.going"))
    (said,) = collect(tmp_path, tmp_path, Wanted(), dry_run=True)
    assert (said.reason, said.entry.bytes > 0, said.held) == ("a killed collection left it", True, False)
    (done,) = collect(tmp_path, tmp_path, Wanted())
    assert done.entry.folder == said.entry.folder
    assert not list(tmp_path.rglob("*.going"))


def test_a_source_that_was_fetched_again_after_a_killed_collection_can_be_collected(tmp_path, monkeypatch):
    SourceCache(tmp_path).obtain(KEY, fill)
    killed_collection(tmp_path, monkeypatch)
    SourceCache(tmp_path).obtain(KEY, fill)
    assert [removal.entry.key for removal in collect(tmp_path, tmp_path, ALL)] == [KEY]
    assert not list((tmp_path / "sha256").iterdir())


def test_what_another_collection_removes_is_not_left_to_it_while_it_lives(tmp_path):
    going = tmp_path / "sha256" / f".{KEY}.going"
    going.mkdir(parents=True)
    other = Lock(tmp_path / "using" / KEY)
    other.alone()
    assert collect(tmp_path, tmp_path, ALL) == []
    other.close()
    assert len(collect(tmp_path, tmp_path, ALL)) == 1


def test_two_collections_at_once_remove_everything_once(tmp_path, monkeypatch):
    with Runner(tmp_path) as runner:
        for number in range(20):
            runner.get(Stage("s", make_stage, options={"number": number}))
    SourceCache(tmp_path).obtain(KEY, fill)
    both_have_looked = Barrier(2)
    real = inventory.inventory

    def looked(*folders):
        found = real(*folders)
        both_have_looked.wait(10)
        return found

    monkeypatch.setattr(inventory, "inventory", looked)
    with ThreadPoolExecutor(2) as pool:
        done = [removal for removals in pool.map(lambda _: collect(tmp_path, tmp_path, ALL), "ab") for removal in removals]
    assert len({removal.entry.folder for removal in done}) == 21
    assert len([removal for removal in done if not removal.held]) == 21
    assert not list(tmp_path.rglob("model.onnx"))


def test_who_waits_for_a_download_holds_no_lock_file_that_a_collection_removed(tmp_path):
    """Else the next one makes the file anew, and both write to the same folder."""
    cache, path = SourceCache(tmp_path), tmp_path / "locks" / KEY
    with cache._locked(KEY):
        path.unlink()  # what a collection does that held it before
    with cache._locked(KEY):
        assert not Lock(path).try_alone()
