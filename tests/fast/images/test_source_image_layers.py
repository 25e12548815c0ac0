"""`include:` of an `oci` address: it is about the files in an image's layers, as it is about those in an archive."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from model_addresses import ONNX, sha256

from gpuserve_images.errors import SourceError
from gpuserve_images.records import silent
from gpuserve_images.sources.cache import SourceCache, cache_folder
from gpuserve_images.sources.downloading import download
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
TAR = "application/vnd.oci.image.layer.v1.tar"
TITLE = "org.opencontainers.image.title"


def layer(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            tar.addfile(member)
    return written.getvalue()


@pytest.fixture
def pushed(web):
    """What puts blobs, plain ones by their titles, into a registry, and returns a source with the given fields."""

    def push(*blobs: bytes | tuple[str, bytes], **fields: object) -> SourceSpec:
        layers = []
        for blob in blobs:
            title, content = blob if isinstance(blob, tuple) else (None, blob)
            web.put(f"v2/models/a/blobs/sha256:{sha256(content)}", content)
            about = {"mediaType": TAR} if title is None else {"mediaType": "application/x", "annotations": {TITLE: title}}
            layers.append({**about, "digest": f"sha256:{sha256(content)}", "size": len(content)})
        manifest = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
        web.put(f"v2/models/a/manifests/sha256:{sha256(manifest)}", manifest)
        url = f"oci://{web.url.removeprefix('http://')}/models/a@sha256:{sha256(manifest)}"
        return SourceSpec.parse({"url": url, "format": "onnx", **fields})

    return push


def files(spec: SourceSpec) -> dict[str, bytes]:
    fetch(spec, Path())
    assert spec.address is not None
    folder = download(spec, spec.address, SourceCache(cache_folder()), silent)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


MODEL = layer({"model/1/small.onnx": ONNX, "model/other.onnx": b"other"})
NOTES = layer({"model/notes.txt": b"notes", "model/.wh.other.onnx": b""})


def test_files_of_an_images_layers_are_chosen(pushed):
    assert files(pushed(MODEL, NOTES)) == {"model/1/small.onnx": ONNX, "model/notes.txt": b"notes"}
    assert files(pushed(MODEL, NOTES, include=["*.onnx"])) == {"model/1/small.onnx": ONNX}


def test_a_packed_folder_beside_plain_files_is_looked_into(pushed):
    both = (("notes.txt", b"notes"), ("config.json", b"{}"), MODEL)
    assert files(pushed(*both, include=["*.json", "model/1/*"])) == {"config.json": b"{}", "model/1/small.onnx": ONNX}


def test_a_pickle_that_is_left_out_is_not_refused(pushed):
    image = layer({"small.onnx": ONNX, "optimizer.pkl": b"\x80\x04."})
    with pytest.raises(SourceError, match=r"leave the file out with `include:`"):
        fetch(pushed(image), Path())
    assert files(pushed(image, include=["*.onnx"])) == {"small.onnx": ONNX}


def test_where_nothing_matches_the_files_are_named(pushed):
    said = r"\(\*\.json, \*\.txt\): has no file that `include` matches; it has model/1/small\.onnx, model/other\.onnx"
    with pytest.raises(SourceError, match=said):
        fetch(pushed(MODEL, include=["*.json", "*.txt"]), Path())


def test_a_link_replaces_what_a_layer_below_has_there(pushed):
    below, above = layer({"small.onnx": b"old"}), layer({"new.bin": ONNX}, {"small.onnx": "new.bin"})
    assert files(pushed(below, above)) == {"new.bin": ONNX, "small.onnx": ONNX}


@pytest.mark.parametrize(
    ("below", "above", "held"),
    [
        ({"m/old": b"o"}, {"m/.config": b"c", "m/.wh..wh..opq": b"", "m/new": b"n"}, {"m/.config": b"c", "m/new": b"n"}),
        ({"m/old": b"o"}, {"m/new": b"n", ".wh.m": b""}, {"m/new": b"n"}),
        ({"m": b"file"}, {"m/new": b"n"}, {"m/new": b"n"}),
        ({"m/a/old": b"o", "m/b": b"o"}, {"m": b"file"}, {"m": b"file"}),
        ({"old": b"o"}, {".config": b"c", ".wh..wh..opq": b""}, {".config": b"c"}),
        ({"m/old": b"o"}, {"m/none/.wh.gone": b"", "new": b"n"}, {"m/old": b"o", "new": b"n"}),
    ],
    ids=["opaque folder", "folder of the same name", "folder over a file", "file over a folder", "opaque top", "nothing there"],
)
def test_a_layer_hides_what_is_below_it_and_none_of_its_own(pushed, below, above, held):
    both = pushed(layer({"small.onnx": ONNX}), layer(below), layer({**above, "last.onnx": ONNX}), path="last.onnx")
    found = files(both)
    assert {name: content for name, content in found.items() if content != ONNX} == held


@pytest.mark.parametrize("mark", [".wh...", ".wh..", ".wh.", "model/.wh..."])
def test_a_whiteout_of_what_is_around_its_layer_is_refused(pushed, mark):
    beside = cache_folder() / "beside"
    beside.mkdir(parents=True)
    (beside / "kept").touch()
    with pytest.raises(SourceError, match=r"has a whiteout of no file"):
        files(pushed(MODEL, layer({mark: b""})))
    assert (beside / "kept").exists()
