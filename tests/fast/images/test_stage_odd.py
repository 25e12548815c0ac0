"""Caches in which something odd lies: nothing of it may stop who only looks, and a build makes anew what cannot be used."""

import json
import os
import shutil
from datetime import timedelta

import pytest

from gpuserve_images.errors import SourceError
from gpuserve_images.pipeline.folders import StoreError
from gpuserve_images.pipeline.inventory import Wanted, collect, inventory
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Stage, Work
from gpuserve_images.records import StageRecord
from gpuserve_images.sources.cache import SourceCache

KEY = "a" * 64
OLD = Wanted(unused_for=timedelta(days=30))


def run(work: Work) -> StageRecord:
    (work.out / "model.onnx").write_bytes(b"model")
    return StageRecord(stage="s")


STAGE = Stage("s", run)


def write(folder):
    (folder / "model.onnx").write_bytes(b"model")


def replaced(path, change):
    """Put something odd in the place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    change(path)


ODD = {
    "a folder": lambda path: (path / "inside").mkdir(parents=True),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "half a JSON": lambda path: path.write_text('{"key": "'),
    "a list": lambda path: path.write_text("[1, 2]"),
    "another version's": lambda path: path.write_text('{"schema": 9, "model.onnx": [1]}'),
    "a name that no file has": lambda path: path.write_text('{"a\\u0000b": [1, 2, "x"]}'),
    "a name that is too long": lambda path: path.write_text(json.dumps({"x" * 5000: [1, 2, "x"]})),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.fixture(params=ODD.values(), ids=ODD)
def odd(request):
    return request.param


def test_in_the_place_of_a_stages_record(tmp_path, odd):
    with Runner(tmp_path) as runner:
        folder = runner.get(STAGE).folder
    replaced(folder / "record.json", odd)
    assert inventory(tmp_path, tmp_path).stages == ()
    assert collect(tmp_path, tmp_path, Wanted(keep_bytes=0)) == []
    with Runner(tmp_path) as runner:
        assert (runner.get(STAGE).folder / "model.onnx").read_bytes() == b"model"
    assert len(inventory(tmp_path, tmp_path).stages) == 1


def test_in_the_place_of_a_stage(tmp_path, odd):
    with Runner(tmp_path) as runner:
        folder = runner.get(STAGE).folder
    replaced(folder, odd)
    assert inventory(tmp_path, tmp_path).stages == ()
    with Runner(tmp_path) as runner:
        assert (runner.get(STAGE).folder / "model.onnx").read_bytes() == b"model"


def test_in_the_place_of_a_builds_report(tmp_path, odd):
    report = tmp_path / "builds" / f"{KEY}.json"
    replaced(report, odd)
    assert inventory(tmp_path, tmp_path).builds == ()
    collect(tmp_path, tmp_path, OLD)
    assert os.path.lexists(report)
    os.utime(report, (0, 0), follow_symlinks=False)
    collect(tmp_path, tmp_path, OLD)
    assert os.path.lexists(report) == report.is_dir()


def test_in_the_place_of_a_downloads_mark(tmp_path, odd):
    store = SourceCache(tmp_path)
    replaced(store.obtain(KEY, write).parent / "complete.json", odd)
    assert (store.obtain(KEY, write) / "model.onnx").read_bytes() == b"model"


def test_in_the_place_of_a_download(tmp_path, odd):
    store = SourceCache(tmp_path)
    replaced(store.obtain(KEY, write).parent, odd)
    inventory(tmp_path, tmp_path)
    assert (store.obtain(KEY, write) / "model.onnx").read_bytes() == b"model"
    replaced(tmp_path / "sha256" / KEY, odd)
    collect(tmp_path, tmp_path, Wanted(keep_bytes=-1))
    inventory(tmp_path, tmp_path)


@pytest.mark.parametrize("place", ["stages/s/x.lock", "builds/x.lock"])
def test_a_folder_where_nobodys_lock_was_stays(tmp_path, place):
    (tmp_path / place / "inside").mkdir(parents=True)
    collect(tmp_path, tmp_path, OLD)
    assert (tmp_path / place / "inside").is_dir()


def test_a_folder_in_the_place_of_a_lock_is_named(tmp_path):
    lock = tmp_path / "stages" / "s" / f"{STAGE.key}.lock"
    lock.mkdir(parents=True)
    with (
        pytest.raises(StoreError, match=rf"{lock}: is a folder, and a file must lie there. Fix: Remove it"),
        Runner(tmp_path) as runner,
    ):
        runner.get(STAGE)
    (tmp_path / "locks" / KEY).mkdir(parents=True)
    with pytest.raises(SourceError, match=rf"locks/{KEY}: is a folder, and a file must lie there"):
        SourceCache(tmp_path).obtain(KEY, write)


def test_a_collection_removes_the_link_and_not_what_it_leads_to(tmp_path):
    with Runner(tmp_path / "cache") as runner:
        folder = runner.get(STAGE).folder
    folder.rename(tmp_path / STAGE.key)
    folder.symlink_to(tmp_path / STAGE.key)
    assert len(collect(tmp_path / "cache", tmp_path, Wanted(keep_bytes=0))) == 1
    assert not os.path.lexists(folder)
    assert (tmp_path / STAGE.key / "model.onnx").exists()
