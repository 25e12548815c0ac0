"""Which files a local source means: folders, links, what tools keep beside a model, and their digest."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from source_archives import ONNX

from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.served import LayoutError, ModelFiles
from gpuserve_images.sources.digests import folder_digest, tree_digest
from gpuserve_images.sources.resolving import fetch, identity
from gpuserve_images.sources.spec import SourceSpec

HEX = "a" * 64
KEPT_BY_TOOLS = (".git/config", "sub/.git/HEAD", ".cache/huggingface/token", "sub/.cache/huggingface/download/x.metadata")


pytestmark = pytest.mark.usefixtures("own_cache")


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        place = tmp_path / "model"
        (place / "sub folder").mkdir(parents=True)
        (place / "b.txt").write_bytes(b"b")
        (place / "sub folder" / "ä.txt").write_bytes(b"a")
        (place / "Z").write_bytes(b"")
        return place

    def test_the_digest_is_what_coreutils_say(self, folder):
        for name in (*KEPT_BY_TOOLS, ".cache/other", "sub/huggingface/x", ".gitignore", "huggingface/x"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        document = (Path(__file__).parents[3] / "docs" / "model-images.md").read_text()
        line = re.search(r"^```sh\n(find .*?)^```", document, flags=re.MULTILINE | re.DOTALL)[1]
        said = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True)
        assert folder_digest(folder) == said.stdout.split()[0]

    def test_what_git_and_hugging_face_keep_beside_a_model_is_no_part_of_it(self, folder, tmp_path):
        (folder / "saved_model.pb").write_bytes(b"\x08\x01")
        before = fetch(SourceSpec(file="model"), tmp_path)
        names = set(before.files)
        for name in KEPT_BY_TOOLS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("hidden-word")
        (folder / ".git" / "link").symlink_to("/etc")
        after = fetch(SourceSpec(file="model"), tmp_path)
        assert (after.sha256, set(after.files)) == (before.sha256, names)
        assert set(ModelFiles.of(folder).files) == names

    def test_a_folder_with_nothing_else_is_empty(self, tmp_path):
        for name in KEPT_BY_TOOLS:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        with pytest.raises(SourceError, match="holds no files"):
            folder_digest(tmp_path)
        with pytest.raises(LayoutError, match="holds no files"):
            ModelFiles.of(tmp_path)

    def test_names_and_contents_are_the_digest_and_times_are_not(self, folder):
        before = folder_digest(folder)
        os.utime(folder / "b.txt", (1, 1))
        (folder / "empty").mkdir()
        assert folder_digest(folder) == before
        (folder / "b.txt").rename(folder / "c.txt")
        assert folder_digest(folder) != before

    def test_a_link_to_a_file_is_that_file(self, folder, tmp_path):
        before = folder_digest(folder)
        (folder / "b.txt").rename(tmp_path / "elsewhere")
        (folder / "b.txt").symlink_to(tmp_path / "elsewhere")
        assert folder_digest(folder) == before

    @pytest.mark.parametrize("what", ["pipe", "broken link", "linked folder", "line break"])
    def test_what_no_model_holds(self, folder, what):
        odd = folder / ("a\nb" if what == "line break" else "odd")
        match what:
            case "pipe":
                os.mkfifo(odd)
            case "broken link":
                odd.symlink_to("none")
            case "linked folder":
                odd.symlink_to("/etc")
            case _:
                odd.touch()
        with pytest.raises(SourceError, match=r"(odd|a\\nb)"):
            folder_digest(folder)

    @pytest.mark.parametrize("source", [{"file": "snap/model.onnx"}, {"file": "snap", "path": "model.onnx"}, {"file": "snap"}])
    def test_a_link_keeps_its_name(self, tmp_path, source):
        """As a snapshot of Hugging Face's cache, whose files are links to blobs that are named by their digests."""
        (tmp_path / "blobs").mkdir()
        (tmp_path / "snap").mkdir()
        (tmp_path / "blobs" / "3f2a").write_bytes(ONNX)
        (tmp_path / "snap" / "model.onnx").symlink_to("../blobs/3f2a")
        found = fetch(SourceSpec.parse(source), tmp_path)
        assert (found.format, set(found.files)) == ("onnx", {"model.onnx"})
        (tmp_path / "plain.onnx").write_bytes(ONNX)
        assert found.sha256 == fetch(SourceSpec(file="plain.onnx"), tmp_path).sha256

    def test_a_link_to_a_folder_elsewhere_is_not_followed(self, folder, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "m.onnx").write_bytes(ONNX)
        (folder / "linked").symlink_to("../elsewhere")
        for path in ("linked/m.onnx", "linked"):
            with pytest.raises(SourceError, match=r"leaves the folder that `source.file` names"):
                fetch(SourceSpec(file="model", path=path), tmp_path)

    def test_a_file_beside_a_linked_folder_is_found_as_the_system_finds_it(self, tmp_path):
        (tmp_path / "releases" / "5").mkdir(parents=True)
        (tmp_path / "current").symlink_to("releases/5")
        (tmp_path / "releases" / "m.onnx").write_bytes(ONNX)
        assert fetch(SourceSpec(file="../m.onnx"), tmp_path / "current").entry == tmp_path / "releases" / "m.onnx"

    def test_a_declared_digest_of_a_local_folder_or_file_is_checked(self, folder, tmp_path):
        (folder / "m.onnx").write_bytes(ONNX)
        good = folder_digest(folder)
        assert fetch(SourceSpec(file="model", path="m.onnx", sha256=good), tmp_path).format == "onnx"
        for spec in (SourceSpec(file="model", path="m.onnx", sha256=HEX), SourceSpec(file="model/m.onnx", sha256=HEX)):
            with pytest.raises(SourceError, match=f"and {HEX} was declared"):
                identity(spec, tmp_path)


def test_a_tree_digest_does_not_depend_on_order():
    assert tree_digest({"a": HEX, "b": "0" * 64}) == tree_digest({"b": "0" * 64, "a": HEX})
