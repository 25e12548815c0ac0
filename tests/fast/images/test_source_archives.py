"""Models in archives: whole, hostile and damaged ones."""

import gzip
import os
import stat
import tarfile
import zipfile
from contextlib import suppress

import onnx
import pytest
from e2e_small_model import classifier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_archives import HARD, LINK, ONNX, member, remote, tar, zip_link, zipped

from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.served import ModelFiles
from gpuserve_images.sources import archives, unpacking
from gpuserve_images.sources.cache import SourceCache
from gpuserve_images.sources.resolving import fetch, identity
from gpuserve_images.sources.spec import SourceSpec

HEX = "a" * 64


pytestmark = pytest.mark.usefixtures("own_cache")


class TestArchives:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("m.tar.gz", tar({"./m/model.onnx": ONNX})),
            ("m.tgz", tar({"m/model.onnx": ONNX})),
            ("m.tar", tar({"model.onnx": ONNX}, mode="w")),
            ("m.zip", zipped({"m/model.onnx": ONNX})),
            # As bsdtar packs ".", that of macOS for one.
            ("m.zip", zipped({"./": b"", "./model.onnx": ONNX})),
            ("m.tar", tar({"b/c": ONNX}, member("b/d", **LINK, linkname="c"), member("model.onnx", **LINK, linkname="b/d"))),
        ],
        ids=lambda value: value if isinstance(value, str) else "archive",
    )
    def test_of_one_model(self, web, tmp_path, name, content):
        spec = remote(web, name, content, format="onnx")
        files = fetch(spec, tmp_path)
        assert files.entry.read_bytes() == ONNX
        assert fetch(spec, tmp_path) == files
        assert len(web.asked) == 1
        (tmp_path / name).write_bytes(content)
        local = SourceSpec(file=name, format="onnx", sha256=spec.sha256)
        assert fetch(local, tmp_path).sha256 == files.sha256
        assert identity(local, tmp_path) == identity(spec, tmp_path)

    def test_of_weights_beside_a_model_in_a_cache_behind_a_link(self, web, tmp_path, monkeypatch):
        onnx.save(classifier(), tmp_path / "m.onnx", save_as_external_data=True, location="./deep/../w.bin", size_threshold=0)
        content = tar({f"m/{name}": (tmp_path / name).read_bytes() for name in ("m.onnx", "w.bin")})
        (tmp_path / "disk").mkdir()
        (tmp_path / "linked").symlink_to("disk")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "linked"))
        files = fetch(remote(web, "m.tgz", content, format="onnx"), tmp_path)
        assert set(files.files) == set(files.record.outputs) == {"m.onnx", "w.bin"}
        assert set(ModelFiles.of(files.entry, files.external).files) == {"m.onnx", "w.bin"}

    def test_of_weights_beside_a_model_and_links_inside(self, web, tmp_path):
        onnx.save(classifier(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        content = tar(
            {"m/m.onnx": (tmp_path / "m.onnx").read_bytes(), "blobs/w": (tmp_path / "w.bin").read_bytes()},
            member("m/w.bin", **LINK, linkname="../blobs/w"),
            member("m/again", **HARD, linkname="blobs/w"),
        )
        files = fetch(remote(web, "m.tgz", content, format="onnx", path="m/m.onnx"), tmp_path)
        assert set(files.files) == {"m.onnx", "w.bin"}
        assert not any(path.is_symlink() for path in files.root.rglob("*")), "what is unpacked holds no links"

    def test_of_links_to_files_that_are_left_out(self, web, tmp_path):
        links = {"snapshots/m.onnx": "../blobs/a", "snapshots/again.txt": "../blobs/a", "snapshots/other.bin": "../blobs/b"}
        content = tar({"blobs/a": ONNX, "blobs/b": b"b"}, *(member(name, **LINK, linkname=to) for name, to in links.items()))
        files = fetch(remote(web, "m.tgz", content, include=["snapshots/m.onnx", "*.txt"], path="snapshots/m.onnx"), tmp_path)
        there = {path.name: path.read_bytes() for path in files.entry.parent.parent.rglob("*") if path.is_file()}
        assert there == {"m.onnx": ONNX, "again.txt": ONNX}

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
    def test_damaged_ones_of_other_compressions(self, tmp_path, method):
        with zipfile.ZipFile(tmp_path / "m.zip", "w", method) as archive:
            archive.writestr("m", os.urandom(9999))
        content = bytearray((tmp_path / "m.zip").read_bytes())
        content[60:200] = bytes(140)
        (tmp_path / "m.zip").write_bytes(content)
        with pytest.raises(SourceError, match="damaged archive"):
            fetch(SourceSpec(file="m.zip", format="onnx"), tmp_path)

    def test_a_zip_that_says_it_begins_before_its_file(self, tmp_path):
        content = bytearray(zipped({"model.onnx": ONNX}))
        directory = content.rindex(b"PK\x05\x06") + 16
        content[directory : directory + 4] = (int.from_bytes(content[directory : directory + 4], "little") + 99).to_bytes(
            4, "little"
        )
        (tmp_path / "m.zip").write_bytes(content)
        with pytest.raises(SourceError, match="damaged archive"):
            fetch(SourceSpec(file="m.zip", format="onnx"), tmp_path)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (tar({"../evil": b"x"}), "path that leaves the archive"),
            (tar({"a/../../evil": b"x"}), "path that leaves the archive"),
            (tar({"/etc/evil": b"x"}), "path that leaves the archive"),
            (tar({"a\\..\\evil": b"x"}), "path that leaves the archive"),
            (tar({}, member("up", **LINK, linkname="../../etc/passwd")), "link that leaves the archive"),
            (tar({}, member("abs", **LINK, linkname="/etc/passwd")), "link that leaves the archive"),
            (tar({}, member("hard", **HARD, linkname="../../etc/passwd")), "leaves the archive"),
            (tar({}, member("hard", **HARD, linkname="/etc/passwd")), "leaves the archive"),
            (tar({"a": b"x"}, member("l", **LINK, linkname="folder")), "is no file of the archive"),
            (
                tar({"a": b"x"}, member("l", **LINK, linkname="k"), member("k", **LINK, linkname="l")),
                r"\(l\): is a link to k, which is no file",
            ),
            (
                tar({}, member("d", **LINK, linkname="/etc"), member("d/evil", b"x")),
                "link that leaves the archive",
            ),
            (
                tar({"in": b"x"}, member("d", **LINK, linkname="in"), member("d/evil", b"x")),
                "a file and a folder of one name",
            ),
            (tar({}, member("dev", type=tarfile.CHRTYPE)), "device"),
            (tar({}, member("dev", type=tarfile.BLKTYPE)), "device"),
            (tar({}, member("pipe", type=tarfile.FIFOTYPE)), "pipe"),
            (tar({"a": b"x"}, member("a", b"y")), "two files of one name"),
            (tar({"a": b"x"}, member("a/b", b"y")), "a file and a folder of one name"),
            (zipped({"../evil": b"x"}), "path that leaves the archive"),
            (zipped({"/etc/evil": b"x"}), "path that leaves the archive"),
            (zipped({}, zip_link("up", "../../etc/passwd")), "link that leaves the archive"),
            (zipped({}, zip_link("dev", "", stat.S_IFCHR)), "device"),
            (tar({}), "holds no files"),
            (zipped({}), "holds no files"),
            (tar({"a": b"x" * 9999})[:-200], "damaged archive"),
            (zipped({"a": os.urandom(9999)})[:-200], "damaged archive"),
            (b"not an archive", "damaged archive"),
            (b"PK not an archive", "damaged archive"),
            (b"\x1f\x8b not an archive", "damaged archive"),
            (b"", "damaged archive"),
        ],
        ids=lambda value: value if isinstance(value, str) else "archive",
    )
    def test_hostile_and_damaged_ones(self, tmp_path, content, words):
        (tmp_path / "m.tar.gz").write_bytes(content)
        outside = set(tmp_path.parent.iterdir())
        if not content:
            words = "is empty"
        with pytest.raises(SourceError, match=words):
            fetch(SourceSpec(file="m.tar.gz", format="onnx"), tmp_path)
        assert set(tmp_path.parent.iterdir()) == outside
        assert not list(tmp_path.rglob("evil"))
        assert not list((tmp_path / "cache").rglob("complete.json"))

    def test_a_bomb_is_left_off_early(self, tmp_path, monkeypatch):
        monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
        zeros = bytes(16 * 2**20)
        for name, content in {"b.tgz": tar({"zeros": zeros}), "b.zip": zipped({"zeros": zeros})}.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(SourceError, match="more than 100 times its size"):
                fetch(SourceSpec(file=name, format="onnx"), tmp_path)
        unpacked = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
        assert unpacked < 6 * 2**20

    def test_a_bomb_in_a_skipped_or_absurd_header(self, tmp_path, monkeypatch):
        monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
        monkeypatch.setattr(archives, "_MAX_READ", 2**20)
        absurd = tarfile.TarInfo("pax")
        absurd.type, absurd.size = tarfile.XHDTYPE, 2**30
        (tmp_path / "a.tgz").write_bytes(gzip.compress(absurd.tobuf() + bytes(2**20)))
        with pytest.raises(SourceError, match=r"header of absurd size"):
            fetch(SourceSpec(file="a.tgz", format="onnx"), tmp_path)

    def test_too_many_entries(self, tmp_path, monkeypatch):
        monkeypatch.setattr(unpacking, "MAX_ENTRIES", 10)
        (tmp_path / "m.zip").write_bytes(zipped({str(number): b"" for number in range(11)}))
        with pytest.raises(SourceError, match="more than 10 entries"):
            fetch(SourceSpec(file="m.zip", format="onnx"), tmp_path)

    def test_an_encrypted_one(self, tmp_path):
        content = bytearray(zipped({"model.onnx": ONNX}))
        content[6] |= 1  # the flag in the file's own header
        content[content.rindex(b"PK\x01\x02") + 8] |= 1  # and in the directory's
        (tmp_path / "m.zip").write_bytes(bytes(content))
        with pytest.raises(SourceError, match="is encrypted"):
            fetch(SourceSpec(file="m.zip", format="onnx"), tmp_path)

    def test_a_path_that_is_not_in_it(self, tmp_path):
        (tmp_path / "m.zip").write_bytes(zipped({"model.onnx": ONNX}))
        with pytest.raises(SourceError, match=r"source.path \(other.onnx\): does not exist.*model.onnx"):
            fetch(SourceSpec(file="m.zip", path="other.onnx"), tmp_path)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    whole=st.sampled_from(
        [tar({"m/a": ONNX, "m/b": b"x"}, mode="w"), tar({"a": ONNX}), zipped({"m/a": ONNX, "b": b"y" * 600})]
    ),
    places=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(1, 4000),
)
def test_no_damage_to_an_archive_gives_anything_but_a_sentence(tmp_path_factory, whole, places, cut):
    content = bytearray(whole)
    for place, value in places:
        content[place % len(content)] = value
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "m.tar.gz").write_bytes(bytes(content[:cut]))
    store = SourceCache(folder / "cache")
    with suppress(SourceError):
        place = unpacking.unpacked(folder / "m.tar.gz", HEX, store, "source.file")
        assert all(path.is_relative_to(place) and not path.is_symlink() for path in place.rglob("*"))
    assert {path.name for path in folder.iterdir()} <= {"m.tar.gz", "cache"}
