"""The folder of a killed image build is left over, that of one under way is not."""

import fcntl

import pytest

from gpuserve_embedded.cluster import image_builds
from gpuserve_images.bases import buildah, recipes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "gpuserve").mkdir()
    return image_builds.folder()


def test_there_is_nothing_where_nothing_was_built(folder):
    assert image_builds.left() == []
    assert image_builds.remove() == []
    assert list(folder.parent.iterdir()) == []


def test_a_killed_build_is_named_and_removed(folder):
    (folder / "root" / "overlay").mkdir(parents=True)
    assert image_builds.left() == [f"folder: {folder}"]
    assert image_builds.remove() == []
    assert not folder.exists()
    assert image_builds.left() == []


def test_a_build_that_is_under_way_is_let_be(folder, monkeypatch):
    """Seen from the midst of one, so that folder and lock are those of the builds themselves."""
    seen = {}

    def build(_folder, _reference, *, work, **_):
        work.mkdir()
        seen["work"], seen["left"] = work, image_builds.left()
        image_builds.remove()
        assert work.exists()

    monkeypatch.setattr(buildah, "build", build)
    monkeypatch.setattr("gpuserve_images.bases.debian.ensure_roots", lambda *_: None)
    monkeypatch.setattr("gpuserve_images.oci.resolve", lambda _: None)
    recipes.ensure_base("triton-cpu", "localhost:1")
    assert seen == {"work": folder, "left": []}
    assert image_builds.left() == [f"folder: {folder}"]


def test_the_lock_is_given_back(folder):
    folder.mkdir()
    image_builds.remove()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
