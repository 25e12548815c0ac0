"""Disks that fill up and caches that are none: the disk is named, and not the model; a pushed image is never a failed build."""

import errno
import gzip
import os
import re
import resource
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from e2e_small_model import FEATURES
from faulty_http import Fault
from model_addresses import sha256

from gpuserve.cli.guard import guarded
from gpuserve_images.disks import FULL_BYTES, scratch
from gpuserve_images.errors import ImageError, SourceError
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.oci.credentials import credentials_for
from gpuserve_images.optimise import graph
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.folders import StoreError, usable
from gpuserve_images.pipeline.inventory import inventory
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Stage, Work
from gpuserve_images.records import StageRecord
from gpuserve_images.sources.aws import aws_settings
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target

SAMPLES = [{"x": np.random.default_rng(seed).normal(size=(1, FEATURES)).astype(np.float32)} for seed in range(16)]
STATIC = CalibrateSpec.parse({"inputs": "samples"})
STAGES = {
    "optimise": lambda source, out: optimise(source, out, "extended"),
    "fp16": lambda source, out: to_fp16(source, out, samples=SAMPLES),
    "int8": lambda source, out: quantise_static(source, out, SAMPLES, STATIC, Target("cpu")),
    "int8-dynamic": quantise_dynamic,
}


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Free bytes by folder, where what is not named has room; `tmp` stands for `/tmp`."""
    free: dict[Path, int] = {}

    def usage(folder):
        named = [free[path] for path in (Path(folder), *Path(folder).parents) if path in free]
        return SimpleNamespace(free=named[0] if named else 1 << 40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return free


class TestScratch:
    @pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
    def test_no_stage_writes_anywhere_but_beside_its_output(self, source, tmp_path, monkeypatch, stage):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        out = tmp_path / "stage" / "model.onnx"
        out.parent.mkdir()
        stage(source, out)
        assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]

    def test_what_a_library_says_of_a_full_disk_is_not_said_of_the_model(self, source, tmp_path, disk, monkeypatch):
        def cannot_write(*_: object, save_to: Path, **__: object) -> None:
            save_to.write_bytes(b"half")
            disk[save_to.parent] = FULL_BYTES - 1
            raise SourceError("model", "cannot be run by ONNX Runtime", "Export it with operators that it has.")

        monkeypatch.setattr(graph, "Session", cannot_write)
        with pytest.raises(OSError, match="No space left") as raised:
            optimise(source, tmp_path / "out.onnx", "basic")
        assert raised.value.errno == errno.ENOSPC
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source.onnx"]

    def test_an_error_with_room_on_the_disk_stays_as_it_is(self, tmp_path, disk):
        disk[tmp_path] = FULL_BYTES
        with pytest.raises(SourceError, match="no operator"), scratch(tmp_path):
            raise SourceError("model", "no operator", "Export it anew.")


class TestWhichDisk:
    """What the store says, by what is full and what the system names."""

    @pytest.mark.parametrize(
        ("full", "named", "said"),
        [
            ("root", None, "root.*gpuserve images gc.*XDG_CACHE_HOME"),
            ("root", "root/stages/x", "root.*gpuserve images gc.*XDG_CACHE_HOME"),
            ("tmp", None, "tmp: the disk has no space left.*TMPDIR"),
            ("tmp", "tmp/x", "tmp: the disk has no space left.*TMPDIR"),
            ("other", "other/x", "other: the disk has no space left; nothing half-written was kept. Fix: Free some.$"),
        ],
    )
    def test_the_full_one_is_named(self, tmp_path, disk, full, named, said):
        disk[tmp_path / full] = 0
        named = str(tmp_path / named) if named else None
        with pytest.raises(StoreError, match=said), usable(tmp_path / "root"):
            raise OSError(errno.ENOSPC, "No space left on device", named)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.EEXIST])
    def test_errors_about_other_files_are_left_alone(self, tmp_path, number):
        with pytest.raises(OSError, match="elsewhere"), usable(tmp_path):
            raise OSError(number, os.strerror(number), "/elsewhere/model.bin")


class TestTooLarge:
    """`ulimit -f`, which Python's programs meet as EFBIG."""

    @pytest.fixture(autouse=True)
    def _limit(self):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    said = r"would be larger than the 1048576 bytes that a file may have in this shell \(`ulimit -f`\)\. Fix: Run"

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_download(self, web, nothing_of_the_user, tmp_path, packed):
        content = bytes(3 << 20)
        fault = Fault(headers={"Content-Encoding": "gzip"}) if packed else Fault()
        url = web.put("weights.txt", gzip.compress(content) if packed else content, fault, fault)
        spec = SourceSpec.parse({"url": url, "sha256": sha256(content), "format": "lightgbm"})
        with pytest.raises(SourceError, match=rf"{tmp_path}/cache.*/weights\.txt: {self.said}"):
            fetch(spec, Path())
        with pytest.raises(SourceError, match=rf"/file: {self.said}"):
            pin(url)

    def test_a_stage(self, tmp_path):
        def run(work: Work) -> StageRecord:
            (work.out / "model.onnx").write_bytes(bytes(3 << 20))
            return StageRecord(stage="any")

        with Runner(tmp_path) as runner, pytest.raises(StoreError, match=rf"^{tmp_path}.*: {self.said}"):
            runner.get(Stage("any", run))

    def test_what_a_library_says_of_it_is_not_said_of_the_model(self, tmp_path):
        def cut(folder: Path) -> None:
            (folder / "model.onnx").write_bytes(bytes(1 << 20))
            raise SourceError("model", "cannot be run by ONNX Runtime", "Export it with operators that it has.")

        with (
            pytest.raises(StoreError, match=rf"/model\.onnx: {self.said}"),
            usable(tmp_path),
            scratch(tmp_path) as folder,
        ):
            cut(folder)

    def test_a_command(self, capsys):
        def command() -> None:
            raise OSError(errno.EFBIG, "File too large", "report.html")

        with pytest.raises(typer.Exit):
            guarded(command)()
        assert re.search(f"report.html: {self.said}", " ".join(capsys.readouterr().err.split()))

    def test_without_a_limit_it_is_the_file_system(self, tmp_path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        with pytest.raises(StoreError, match="model: would be larger than its file system lets a file be"), usable(tmp_path):
            raise OSError(errno.EFBIG, "File too large", str(tmp_path / "model"))


class TestNoFolder:
    """`XDG_CACHE_HOME` names a file, or leads through one."""

    @pytest.mark.parametrize("below", ["", "gpuserve", "gpuserve/images", "gpuserve/images/stages"])
    def test_a_stage_says_what_is_none(self, tmp_path, below):
        file = tmp_path / "cache" / below
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        with (
            Runner(tmp_path / "cache/gpuserve/images") as runner,
            pytest.raises(StoreError, match=f"{file} is none.*Fix: Set XDG_CACHE_HOME to a folder"),
        ):
            runner.get(Stage("any", lambda work: StageRecord(stage="any")))

    def test_a_closed_folder_is_named(self, tmp_path):
        def fail(work: Work) -> StageRecord:
            raise PermissionError(errno.EACCES, "Permission denied", str(work.out / "file"))

        with Runner(tmp_path) as runner, pytest.raises(StoreError, match=r"cannot be used: .*Fix: Set XDG_CACHE_HOME"):
            runner.get(Stage("any", fail))

    @pytest.mark.parametrize("closed", ["stages", "sources"])
    def test_a_closed_folder_is_named_by_a_list_of_what_is_kept(self, tmp_path, monkeypatch, closed):
        below, looked = tmp_path / closed, Path.stat

        def stat(self, **how):
            if self.is_relative_to(below):
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return looked(self, **how)

        monkeypatch.setattr(Path, "stat", stat)
        with pytest.raises(StoreError, match=rf"^{below}: cannot be used: .*Fix: Set XDG_CACHE_HOME"):
            inventory(tmp_path / "stages", tmp_path / "sources")

    def test_a_folder_that_cannot_be_made_is_named(self):
        with (
            Runner(Path("/proc/nowhere/gpuserve/images")) as runner,
            pytest.raises(StoreError, match=r"^/proc/nowhere.* cannot be used: .*Fix: Set XDG_CACHE_HOME to a folder that can"),
        ):
            runner.get(Stage("any", lambda work: StageRecord(stage="any")))

    def test_a_missing_file_of_a_stage_is_left_alone(self, tmp_path):
        with pytest.raises(FileNotFoundError), usable(tmp_path):
            (tmp_path / "key" / "model.onnx").read_bytes()

    def test_a_build_says_it_before_any_work(self, sandbox, registry, tmp_path):
        (tmp_path / "cache").touch()
        base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
        model = load_model(sandbox.models / "tiny.yaml")
        with pytest.raises(ImageError, match=f"{tmp_path}/cache is none.*Fix: Set XDG_CACHE_HOME to a folder"):
            build(
                model,
                "fp32",
                folder=sandbox.models,
                registry=registry.host,
                base=base,
                cache=tmp_path / "cache/gpuserve/images",
            )

    @pytest.mark.parametrize(
        "command",
        [("compile", "tiny.yaml", "--build", "fp32", "-o", "out"), ("images", "ls"), ("images", "gc", "--keep", "1Gi")],
    )
    def test_no_command_ends_with_the_systems_words_alone(self, sandbox, cli, tmp_path, monkeypatch, command):
        monkeypatch.chdir(sandbox.models)
        (tmp_path / "cache").touch()
        result = cli(*command, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
        assert "Errno" not in result.output
        if command[0] == "compile":
            assert result.exit_code != 0
            assert f"{tmp_path}/cache is none. Fix: Set XDG_CACHE_HOME to a folder" in " ".join(result.output.split())
        else:
            assert result.exit_code == 0


def test_who_has_no_home_is_told_what_to_set(cli, monkeypatch):
    """As a container's user does who is but a number."""

    def nowhere() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("HOME", "XDG_CACHE_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    result = cli("images", "ls")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "XDG_CACHE_HOME: is not set, and this user has no home directory" in result.stderr
    assert "RuntimeError" not in cli("doctor").output
    assert credentials_for("r.example.com", "m") is None
    assert aws_settings({"AWS_REGION": "eu-central-1"}, "s3://b/m")["region"] == "eu-central-1"


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_report_that_cannot_be_kept_is_a_note_and_no_failure(sandbox, registry, tmp_path, monkeypatch, number):
    real = Path.write_text

    def fails(path: Path, *arguments: object, **options: object) -> object:
        if path.parent.name == "builds":
            real(path, "half")
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fails)
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
    where = f"{registry.host}/noted{number}"
    model = load_model(sandbox.models / "tiny.yaml")
    report = build(model, "fp32", folder=sandbox.models, registry=where, base=base, cache=tmp_path / "cache")
    assert report.pushed
    assert "the image is pushed, and `gpuserve images ls`" in report.notes[-1]
    assert not list((tmp_path / "cache/builds").glob("*.new"))
