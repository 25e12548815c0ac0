"""Collecting: by age, by size, by what the stacks need, never what a build holds."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from gpuserve_images.pipeline.inventory import Wanted, collect, inventory, keep_report
from gpuserve_images.pipeline.report import BuildReport, Summary
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Source, Stage, Work
from gpuserve_images.records import StageRecord

DAY = 86400


def stage(number: int, size: int = 100) -> Stage:
    def run(work: Work) -> StageRecord:
        (work.out / "model.onnx").write_bytes(bytes(size))
        return StageRecord(stage="s")

    return Stage("s", run, options={"number": number})


@pytest.fixture
def root(tmp_path):
    """Three stages of 100 bytes, used today, 10 and 40 days ago."""
    with Runner(tmp_path) as runner:
        for number, age in enumerate((0, 10, 40)):
            folder = runner.get(stage(number)).folder
            then = time.time() - age * DAY
            os.utime(folder, (then, then))
    return tmp_path


def left(root) -> set[int]:
    keys = {entry.key for entry in inventory(root, root).stages}
    return {number for number in range(3) if stage(number).key in keys}


@pytest.mark.parametrize(
    ("wanted", "stay"),
    [
        (Wanted(), {0, 1, 2}),
        (Wanted(unused_for=timedelta(days=30)), {0, 1}),
        (Wanted(unused_for=timedelta(days=5)), {0}),
        (Wanted(keep_bytes=250), {0, 1}),
        (Wanted(keep_bytes=0), set()),
        (Wanted(keep_bytes=10_000), {0, 1, 2}),
        (Wanted(needed={stage(2).key}), {2}),
        (Wanted(needed=set()), set()),
        (Wanted(unused_for=timedelta(days=30), keep_bytes=100), {0}),
    ],
)
def test_what_is_wanted_goes_and_the_rest_stays(root, wanted, stay):
    said = collect(root, root, wanted, dry_run=True)
    assert left(root) == {0, 1, 2}
    done = collect(root, root, wanted)
    assert [removal.entry for removal in said] == [removal.entry for removal in done]
    assert left(root) == stay
    assert sum(removal.entry.bytes for removal in done) == 100 * (3 - len(stay))
    assert {path.name for path in (root / "stages/s").iterdir()} == {
        name for number in stay for name in (stage(number).key, f"{stage(number).key}.lock")
    }


def test_what_a_clock_that_was_ahead_used_ages_from_now(root):
    (root / "builds").mkdir()
    report = root / "builds" / "k.json"
    report.write_text("{}")
    ahead = time.time() + 3650 * DAY
    for place in (*(entry.folder for entry in inventory(root, root).stages), report):
        os.utime(place, (ahead, ahead))
    collect(root, root, Wanted(unused_for=timedelta(days=1)), dry_run=True)
    assert report.stat().st_mtime == pytest.approx(ahead)
    assert not collect(root, root, Wanted(unused_for=timedelta(days=1)))
    stamps = [report.stat().st_mtime, *(entry.used.timestamp() for entry in inventory(root, root).stages)]
    assert stamps == pytest.approx([time.time()] * 4, abs=60)
    for place in (*(entry.folder for entry in inventory(root, root).stages), report):
        os.utime(place, (ahead, ahead))
    assert len(collect(root, root, Wanted(unused_for=timedelta(0)))) == 3
    assert left(root) == set()
    assert not report.exists()


def test_what_a_build_holds_stays(root):
    with Runner(root) as runner:
        runner.get(stage(1))
        done = collect(root, root, Wanted(needed=set()))
        assert {removal.entry.key: removal.held for removal in done}[stage(1).key]
        assert left(root) == {1}
    collect(root, root, Wanted(needed=set()))
    assert left(root) == set()


def test_use_makes_a_stage_young_again(root):
    with Runner(root) as runner:
        assert runner.get(stage(2)).origin == "local"
    collect(root, root, Wanted(unused_for=timedelta(days=30)))
    assert left(root) == {0, 1, 2}


def test_what_killed_builds_left_goes_and_what_a_living_one_makes_stays(root):
    dead = root / "stages/s/.dead.abc"
    dead.mkdir()
    (dead / "half").write_bytes(bytes(7))

    def run(work: Work) -> StageRecord:
        (work.out / "half").touch()
        assert [removal.reason for removal in collect(root, root, Wanted())] == ["a killed build left it"]
        assert (work.out / "half").exists()
        return StageRecord(stage="s")

    with Runner(root) as runner:
        runner.get(Stage("s", run))
    assert not dead.exists()


def test_lock_files_of_nothing_go(root):
    def fail(work: Work) -> StageRecord:
        raise ValueError("no")

    with Runner(root) as runner, pytest.raises(ValueError, match="no"):
        runner.get(Stage("s", fail, options={"bad": 1}))
    (root / "builds").mkdir()
    (root / "builds" / "key.lock").touch()
    collect(root, root, Wanted())
    assert len(list((root / "stages/s").glob("*.lock"))) == 3
    assert not list((root / "builds").iterdir())


def test_an_empty_machine_has_nothing(tmp_path):
    found = inventory(tmp_path / "nowhere", tmp_path / "none")
    assert (found.stages, found.sources, found.builds) == ((), (), ())
    assert collect(tmp_path / "nowhere", tmp_path / "none", Wanted(keep_bytes=0)) == []


def download(root, key: str, age: float, size: int = 100):
    files = root / "sha256" / key / "files"
    files.mkdir(parents=True)
    (files / "model.onnx").write_bytes(bytes(size))
    mark = root / "sha256" / key / "complete.json"
    mark.write_text("{}")
    then = time.time() - age * DAY
    os.utime(mark, (then, then))
    return files


def test_downloads_go_by_age_and_stay_while_a_build_uses_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache, sources = tmp_path / "gpuserve/images", tmp_path / "gpuserve/sources"
    old, new = download(sources, "a" * 64, 40), download(sources, "b" * 64, 1)
    cut = sources / "partial" / ("c" * 64)
    cut.mkdir(parents=True)
    source = Source("digest", lambda _: (old, "model.onnx", StageRecord(stage="source")))
    month = Wanted(unused_for=timedelta(days=30), needed=set())
    with Runner(cache) as runner:
        runner.get(source)
        assert [removal.held for removal in collect(cache, sources, month)] == [True]
    assert [removal.entry.key for removal in collect(cache, sources, month)] == ["a" * 64]
    assert (old.exists(), new.exists(), cut.exists()) == (False, True, True)
    collect(cache, sources, Wanted(keep_bytes=0, unused_for=timedelta(0)))
    assert (new.exists(), cut.exists()) == (False, False)


def test_files_that_a_living_build_removes_meanwhile_do_not_stop_a_collection(root, monkeypatch):
    """The build's own lock cannot be taken before its folder was seen, so its files come and go while they are counted."""
    real = Path.stat

    def gone(path, **options):
        if path.name == "passing":
            raise FileNotFoundError(path)
        return real(path, **options)

    def run(work: Work) -> StageRecord:
        (work.out / "passing").touch()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "stat", gone)
            assert collect(root, root, Wanted()) == []
        (work.out / "passing").unlink()
        return StageRecord(stage="s")

    with Runner(root) as runner:
        runner.get(Stage("s", run))


@pytest.mark.parametrize("content", ["", '{"reference": "r", "newer": 1}', "\xff"])
def test_a_report_that_cannot_be_read_is_left_out(root, content):
    (root / "builds").mkdir()
    (root / "builds" / f"{'a' * 64}.json").write_bytes(content.encode("latin-1"))
    summary = Summary(model="m", build="b", key="b" * 64, signature=None)
    whole = BuildReport(reference="r", tag="t", digest="d", summary=summary, built=True, pushed=True)
    keep_report(root, whole)
    assert [report for _, report in inventory(root, root).builds] == [whole]
    assert collect(root, root, Wanted(), dry_run=True) == []
