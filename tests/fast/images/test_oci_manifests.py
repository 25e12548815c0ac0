"""Manifests that nobody should have written, which every reader meets."""

import hashlib
import json
from pathlib import Path

import pytest

from gpuserve_images.builder import context
from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.oci.artifact import read_artifact
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEX, MANIFEST
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.sharing import STAGE_ARTIFACT, StageShare
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user", "_elsewhere")
DIGEST = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
SOUND = {"mediaType": "text/plain", "digest": DIGEST, "size": 1, "annotations": {"org.opencontainers.image.title": "a.onnx"}}


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def serve(web):
    """Serve a document as the manifest of whatever is asked for, and return its reference by digest."""

    def put(document, kind=MANIFEST, selector=None):
        content = json.dumps(document).encode()
        name = selector or f"sha256:{hashlib.sha256(content).hexdigest()}"
        web.put(f"v2/m/manifests/{name}", content)
        web.kinds[f"v2/m/manifests/{name}"] = kind
        return f"{web.url.removeprefix('http://')}/m" + (f"@{name}" if selector is None else f":{name}")

    return put


BROKEN = {
    "no size": ({"size": None}, r"layers\[0\]\.size is missing"),
    "negative": ({"size": -1}, r"layers\[0\]\.size = -1 is no number of bytes"),
    "text": ({"size": "12"}, r"layers\[0\]\.size = '12' is no number"),
    "yes": ({"size": True}, r"layers\[0\]\.size = True is no number"),
    "part": ({"size": 1.5}, r"layers\[0\]\.size = 1\.5 is no number"),
    "no digest": ({"digest": None}, r"layers\[0\]\.digest is missing"),
    "a path": ({"digest": "sha256:../../../etc/passwd"}, r"digest = 'sha256:\.\./\.\./\.\./etc/passwd' is no SHA-256 digest"),
    "capitals": ({"digest": DIGEST.upper()}, "is no SHA-256 digest"),
    "a line more": ({"digest": f"{DIGEST}\n"}, "is no SHA-256 digest"),
    "number": ({"digest": 12}, r"digest = 12 is no SHA-256 digest"),
    "type": ({"mediaType": 3}, r"mediaType = 3 is no media type"),
    "notes": ({"annotations": ["x"]}, r"layers\[0\]\.annotations = \['x'\] is no object"),
    "title": ({"annotations": {"org.opencontainers.image.title": 5}}, r"title = 5 is no text"),
}
READERS = {
    "source": lambda it: fetch(SourceSpec(url=f"oci://{it}", format="onnx"), Path()),
    "document": read_artifact,
    "base": lambda it: bake(it.replace("@", ":new@").partition("@")[0], [Layer({"/a": File(b"a")})], base=it),
    "context": lambda it: context.pull(it, Path()),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_layer_is_named(serve, web, change, words, read):
    layer = {name: value for name, value in {**SOUND, **change}.items() if value is not None}
    reference = serve({"schemaVersion": 2, "layers": [layer]})
    with pytest.raises(RegistryError, match=f"repository m: the manifest sha256:[0-9a-f]+ is broken: .*{words}"):
        read(reference)
    assert len(web.asked) == 1


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"layers": {"a": 1}}, r"layers = \{'a': 1\} is no list"),
        ({"layers": ["x"]}, r"layers\[0\] = 'x' is no descriptor"),
        ({"config": "x"}, "config = 'x' is no descriptor"),
        ({"config": {}}, r"config\.digest is missing"),
        ({"manifests": 5}, "manifests = 5 is no list"),
        ({"manifests": [{"platform": {"os": "linux"}}]}, r"manifests\[0\]\.digest is missing"),
        ({"manifests": [{**SOUND, "platform": "linux"}]}, r"manifests\[0\]\.platform = 'linux' is no object"),
        ({"annotations": {"a": 1}}, r"annotations\.a = 1 is no text"),
    ],
)
def test_broken_parts_are_named(serve, document, words, read):
    with pytest.raises(RegistryError, match=f"is broken: {words}"):
        read(serve({"schemaVersion": 2, **document}))


def test_a_referrer_that_is_broken_is_named(serve, web):
    web.put(f"v2/m/referrers/{DIGEST}", json.dumps({"manifests": [{"digest": "x", "size": 1}]}).encode())
    web.kinds[f"v2/m/referrers/{DIGEST}"] = INDEX
    client = RegistryClient(web.url.removeprefix("http://"))
    with pytest.raises(RegistryError, match=rf"manifest {DIGEST} is broken: manifests\[0\]\.digest = 'x' is no SHA-256"):
        client.referrers(Reference(client.registry, "m", "1"), DIGEST)


def test_an_empty_index_is_no_base(serve):
    reference = serve({"schemaVersion": 2}, INDEX)
    with pytest.raises(RegistryError, match="is not built for linux/arm64, only for none"):
        bake(f"{reference.partition('@')[0]}:new", [Layer({"/a": File(b"a")})], base=reference, platform="linux/arm64")


@pytest.mark.parametrize("layers", [[], [{**SOUND, "mediaType": None}]], ids=["fewer", "untyped"])
def test_layers_that_the_configuration_does_not_tell_of_are_no_base(serve, web, layers):
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [DIGEST]}}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    web.put(f"v2/m/blobs/{digest}", config)
    layers = [{name: value for name, value in layer.items() if value is not None} for layer in layers]
    reference = serve({"schemaVersion": 2, "config": {"digest": digest, "size": len(config)}, "layers": layers})
    with pytest.raises(RegistryError, match=rf"is no image to build on, but a manifest of {len(layers)} layers"):
        bake(f"{reference.partition('@')[0]}:new", [Layer({"/a": File(b"a")})], base=reference)


def test_a_broken_stage_is_made_anew(serve, tmp_path):
    notes = []
    untitled = {**SOUND, "annotations": {}}
    for number, document in enumerate([{"layers": [{"size": 1}]}, {"layers": [untitled]}]):
        key = f"{number}" * 64
        serve({"artifactType": STAGE_ARTIFACT, **document}, selector=f"int8-{key[:40]}")
        repository = serve({}, selector="unused").rpartition(":")[0]
        assert not StageShare(repository, notes.append).take("int8", key, tmp_path)
    assert len(notes) == 2
    assert "layers[0].digest is missing" in notes[0]
    assert "its files have no names" in notes[1]
