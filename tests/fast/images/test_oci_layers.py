import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import File, Layer, TarLayer
from gpuserve_images.oci.compression import compressed, identity

NAMES = st.from_regex(r"[a-zA-Z0-9._-]{1,120}", fullmatch=True).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def tar_of(layer):
    return b"".join(layer.chunks())


def members(layer):
    with tarfile.open(fileobj=io.BytesIO(tar_of(layer))) as tar:
        return tar.getmembers()


def test_entries_are_sorted_and_owned_by_root_at_time_zero(tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 1000)
    layer = Layer(
        {"/models/m/1/model.onnx": File(weights), "/bin/run": File(b"#!", 0o755), "/models/m/config.pbtxt": File(b"c")}
    )
    found = members(layer)
    assert [(entry.name, entry.isdir(), entry.mode, entry.size) for entry in found] == [
        ("bin/run", False, 0o755, 2),
        ("models/m/1/model.onnx", False, 0o644, 1000),
        ("models/m/config.pbtxt", False, 0o644, 1),
    ]
    assert {(entry.uid, entry.gid, entry.mtime) for entry in found} == {(0, 0, 0)}


def test_the_tar_does_not_depend_on_order_place_or_time(tmp_path):
    one, two = tmp_path / "one", tmp_path / "deeper" / "two"
    two.parent.mkdir()
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    two.chmod(0o600)
    first = tar_of(Layer({"/a/x": File(one), "/b": File(b"b")}))
    assert first == tar_of(Layer({"/b": File(b"b"), "/a/x": File(two)}))


def test_directories_may_be_empty_and_have_a_mode():
    found = members(Layer({}, {"/tmp": 0o1777}))  # noqa: S108 - a path in an image
    assert [(entry.name, entry.isdir(), entry.mode) for entry in found] == [("tmp", True, 0o1777)]


def test_parents_have_no_entry_which_would_replace_the_directory_or_link_of_a_base():
    found = members(Layer({"/home/app/x": File(b"x"), "/opt/models/m/1/x": File(b"x")}, {"/opt/cache/new": 0o700}))
    assert [(entry.name, entry.mode) for entry in found] == [
        ("home/app/x", 0o644),
        ("opt/cache/new", 0o700),
        ("opt/models/m/1/x", 0o644),
    ]


@pytest.mark.parametrize("place", ["tmp", "var/tmp"])
def test_what_everybody_may_write_to_stays_so_where_files_go_there(place):
    """Engines on overlayfs make a directory without entry anew, 0755, over the base's."""
    found = members(Layer({f"/{place}/a/x": File(b"x")}))
    assert [(entry.name, entry.mode) for entry in found] == [(place, 0o1777), (f"{place}/a/x", 0o644)]
    assert members(Layer({f"/{place}/x": File(b"x")}, {f"/{place}": 0o700}))[0].mode == 0o700


@pytest.mark.slow
@given(st.dictionaries(PATHS, st.binary(max_size=2000), max_size=6))
def test_every_file_comes_out_of_the_tar_as_it_went_in(contents):
    paths = set(contents)
    if any(str(parent) in paths for path in paths for parent in Path(path).parents):
        with pytest.raises(ImageError, match="also a directory"):
            tar_of(Layer({path: File(content) for path, content in contents.items()}))
        return
    layer = Layer({path: File(content) for path, content in contents.items()})
    with tarfile.open(fileobj=io.BytesIO(tar_of(layer))) as tar:
        files = {f"/{entry.name}": tar.extractfile(entry).read() for entry in tar if entry.isfile()}
    assert files == contents
    assert layer.source_bytes() == sum(map(len, contents.values()))


@pytest.mark.parametrize("path", ["model.onnx", "/models/../etc/passwd", "/models/", "//models", "/", "/models//m", ""])
def test_a_path_that_is_not_plainly_absolute_is_refused(path):
    with pytest.raises(ImageError, match="absolute") as caught:
        tar_of(Layer({path: File(b"")}))
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(("make", "reason"), [(lambda _: None, "no such file"), (Path.mkdir, "not a regular file")])
def test_a_source_that_is_no_file_is_named(tmp_path, make, reason):
    source = tmp_path / "model.onnx"
    make(source)
    with pytest.raises(ImageError, match=reason) as caught:
        tar_of(Layer({"/m": File(source)}))
    assert str(source) in str(caught.value)


@pytest.mark.parametrize("change", [b"", b"longer than it was"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, change):
    source = tmp_path / "model.onnx"
    source.write_bytes(b"as it was")
    chunks = Layer({"/m": File(source)}).chunks()
    next(chunks)
    source.write_bytes(change)
    with pytest.raises(ImageError, match="changed while it was read"):
        list(chunks)


def test_a_tar_layer_is_sent_as_it_is(tmp_path):
    tar = tmp_path / "root.tar"
    tar.write_bytes(b"\1" * 3_000_000)
    layer = TarLayer(tar)
    assert tar_of(layer) == tar.read_bytes()
    assert layer.source_bytes() == 3_000_000


class TestCompression:
    CONTENT = bytes(range(256)) * 3000 + os.urandom(300_000)

    @pytest.mark.parametrize("kind", ["zstd", "gzip"])
    def test_the_bytes_do_not_depend_on_how_the_stream_is_cut(self, kind):
        def cut(size):
            return [self.CONTENT[start : start + size] for start in range(0, len(self.CONTENT), size)]

        assert len({b"".join(compressed(cut(size), kind)) for size in (1000, 65_537, 1 << 20)}) == 1

    def test_a_gzip_stream_holds_no_time(self):
        # Bytes 4 to 7 of the header, RFC 1952.
        assert b"".join(compressed([b"x"], "gzip"))[4:8] == bytes(4)

    def test_the_identity_names_what_decides_the_bytes(self):
        assert identity("zstd") == f"zstd:3:{'.'.join(map(str, zstandard.ZSTD_VERSION))}"
        assert identity("gzip").startswith("gzip:6:zlib-")
        assert identity("none") == "none"

    def test_these_bytes_were_seen_before(self):
        """A new libzstd that packs differently shows here; then the identity changes with it, and images are pushed anew."""
        packed = b"".join(compressed([bytes(range(256)) * 100], "zstd"))
        assert (identity("zstd"), hashlib.sha256(packed).hexdigest()) == (
            "zstd:3:1.5.7",
            "af0e8a23881080c569af5f647404836d72fecc0f6521f85138738cacb3e9f1fe",
        )
