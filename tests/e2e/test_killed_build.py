"""A base image's build that was killed, by the real buildah: what it had running, mounted and written is found and goes."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_cluster import ROOT, wait_for

from gpuserve_embedded import tools
from gpuserve_embedded.cluster import image_builds
from gpuserve_embedded.run.orphans import end_orphans

pytestmark = pytest.mark.e2e

BUILD = """
import os, pathlib, sys
import gpuserve_images.oci
from gpuserve_embedded.run.orphans import mark
from gpuserve_images.bases import recipes

os.environ.update(mark())
gpuserve_images.oci.resolve = lambda _: None
recipes._recipe_folder = lambda _: pathlib.Path(sys.argv[1])
recipes.ensure_base("never-ends", "localhost:1")
"""


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The process id of a program that runs for ever in the image that a killed process was building."""
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    shutil.copy(tools.ensure("pause", print), recipe / "pause")
    (recipe / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nRUN ["/pause"]\n')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    building = subprocess.Popen([sys.executable, "-c", BUILD, str(recipe)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        inside = wait_for("the program in the image", _inside, seconds=60)
        assert image_builds.left() == []  # it is under way
        building.kill()
        building.wait()
        yield inside
    finally:
        building.kill()
        building.wait()
        end_orphans()
        image_builds.remove()


def test_all_of_it_goes(killed: int):
    assert any(line.startswith(f"process: {killed} ") for line in image_builds.left())
    assert any(line.startswith("mount: ") for line in image_builds.left())
    end_orphans()
    assert image_builds.remove() == []
    assert image_builds.left() == []
    assert not _runs(killed)
    assert str(image_builds.folder()) not in Path("/proc/self/mounts").read_text()


def test_it_goes_without_a_mark_too(killed: int):
    """A builder is known by its store, and what runs in the image by its root."""
    assert image_builds.remove() == []
    assert not _runs(killed)


def _inside() -> int | None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes() == b"/pause\0" and (process / "root").readlink() != Path("/"):
                return int(process.name)
        except OSError:
            continue
    return None


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
