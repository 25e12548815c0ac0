"""Baking against a real registry."""

import gzip
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import zstandard
from e2e_registry import CREDENTIALS, PASSWORD_FILE, RegistryServer

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, ImageConfig, Layer, bake, layer_blobs, layers, memory, push_artifact, resolve
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEX, encode
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = f"{MANIFEST}, {INDEX}"
WEIGHTS = Layer({"/models/m/1/model.onnx": File(b"w" * 100_000)}, comment="weights")
CONFIG = Layer({"/models/m/config.pbtxt": File(b"name: 'm'")}, comment="config")


def document(registry, repository, path):
    answer = requests.get(f"http://{registry}/v2/{repository}/{path}", headers={"Accept": ACCEPT}, timeout=10)
    answer.raise_for_status()
    return answer.json()


def read(reference):
    """Return manifest and configuration of an image by digest."""
    registry, rest = reference.split("/", 1)
    repository, digest = rest.split("@")
    manifest = document(registry, repository, f"manifests/{digest}")
    return manifest, document(registry, repository, f"blobs/{manifest['config']['digest']}")


def since(server, before):
    return server.requests()[before:]


@pytest.fixture(scope="module")
def base(registry):
    return bake(
        f"{registry.host}/bases/server:1", [Layer({"/server": File(b"s" * 5000, 0o755)})], config=ImageConfig(["/server"])
    )


def test_a_base_gets_new_layers_and_keeps_its_own(registry, base):
    result = bake(f"{registry.host}/a/m:1", [WEIGHTS, CONFIG], base=base.reference, annotations={"who": "me"})
    manifest, config = read(result.reference)
    base_manifest, _ = read(base.reference)
    assert [layer["digest"] for layer in manifest["layers"]][:1] == [layer["digest"] for layer in base_manifest["layers"]]
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == len(config["history"]) == 3
    assert config["config"]["Entrypoint"] == ["/server"]
    assert manifest["annotations"]["who"] == "me"
    assert manifest["annotations"]["org.opencontainers.image.base.digest"] == base.digest


def test_base_layers_are_mounted_and_never_sent(registry, base):
    before = len(registry.requests())
    result = bake(f"{registry.host}/mounted/m:1", [WEIGHTS], base=base.reference)
    asked = since(registry, before)
    layer = read(base.reference)[0]["layers"][0]
    assert [
        status for method, path, status in asked if method == "POST" and f"mount=sha256%3A{layer['digest'][7:]}" in path
    ] == [201]
    assert not [path for method, path, _ in asked if method == "GET" and layer["digest"] in path]
    assert result.reused_bytes == layer["size"]


def test_an_unchanged_bake_only_asks_and_gives_the_same_digest(registry, base):
    first = bake(f"{registry.host}/same/m:1", [WEIGHTS, CONFIG], base=base.reference)
    before = len(registry.requests())
    again = bake(f"{registry.host}/same/m:1", [WEIGHTS, CONFIG], base=base.reference)
    assert again.digest == first.digest
    assert again.uploaded_bytes == 0
    assert [method for method, _, _ in since(registry, before)] == ["GET", "GET", "HEAD"]


def test_a_changed_file_sends_its_own_layer_only(registry, base):
    bake(f"{registry.host}/changed/m:1", [WEIGHTS, CONFIG], base=base.reference)
    other = Layer({"/models/m/config.pbtxt": File(b"name: 'other'")})
    result = bake(f"{registry.host}/changed/m:2", [WEIGHTS, other], base=base.reference)
    assert result.uploaded_bytes < 10_000
    assert result.reused_bytes > 100_000


def test_the_digest_is_the_same_on_every_registry_and_day(registry, tmp_path):
    # Written down once: a change here means that every image of every user is pushed anew.
    expected = "sha256:32389695627fecc1a5919f8ea5771b06f58f47d72b60e68945327b93f425ab97"
    with RegistryServer(tmp_path) as other:
        digests = {bake(f"{host}/m:1", [WEIGHTS, CONFIG]).digest for host in (registry.host, other.host)}
    assert digests == {expected}


def test_a_base_of_another_registry_is_sent_once_however_many_bakes_use_it(registry, base, tmp_path):
    with RegistryServer(tmp_path) as other:
        layer = read(base.reference)[0]["layers"][0]["digest"]

        def one(name):
            return bake(f"{other.host}/{name}:1", [Layer({"/m": File(name.encode())})], base=base.reference)

        before = len(registry.requests())
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(one, ["a", "b", "c"]))
        results.append(one("d"))
        fetched = [path for method, path, _ in since(registry, before) if method == "GET" and layer in path]
        assert len(fetched) == 1
        assert sum(result.uploaded_bytes > 5000 for result in results) == 1
        mounts = [status for method, path, status in other.requests() if method == "POST" and "mount=" in path]
        assert mounts.count(201) == 3


def test_layers_of_files_that_did_not_change_are_not_read_again(registry, tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 50_000)
    os.utime(weights, (1, 1))
    layer = Layer({"/w": File(weights)})
    monkeypatch.setattr(layers, "_RACY_NANOSECONDS", 0)
    first = bake(f"{registry.host}/remembered/m:1", [layer])
    with monkeypatch.context() as patched:
        patched.setattr(File, "chunks", lambda *_: pytest.fail("the file was read"))
        assert bake(f"{registry.host}/remembered/m:1", [layer]).digest == first.digest
    weights.write_bytes(b"x" * 50_000)
    os.utime(weights, (1, 1))
    assert bake(f"{registry.host}/remembered/m:1", [layer]).digest != first.digest


def test_what_a_release_that_wrote_other_tars_remembered_counts_no_more(tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(b"w")
    monkeypatch.setattr(layers, "_RACY_NANOSECONDS", 0)
    layer = Layer({"/w": File(tmp_path / "w")})
    before = layer_blobs._key(layer, "none")
    monkeypatch.setattr(layer_blobs, "_VERSION", layer_blobs._VERSION + 1)
    assert before != layer_blobs._key(layer, "none") is not None


def test_a_file_so_new_that_a_change_could_hide_is_read(registry, tmp_path):
    weights = tmp_path / "weights"
    digests = set()
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        digests.add(bake(f"{registry.host}/new/m:1", [Layer({"/w": File(weights)})]).digest)
    assert len(digests) == 2


def test_what_was_remembered_wrongly_is_forgotten_when_the_registry_says_so(registry, tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 50_000)
    layer = Layer({"/w": File(weights)})
    monkeypatch.setattr(layers, "_RACY_NANOSECONDS", 0)
    key = layer_blobs._key(layer, "none")
    memory.remember_layer(key, "sha256:" + "0" * 64, 51_712, "sha256:" + "0" * 64)
    with pytest.raises(RegistryError, match="found the request wrong"):
        bake(f"{registry.host}/wrong/m:1", [layer])
    assert bake(f"{registry.host}/wrong/m:1", [layer]).uploaded_bytes > 50_000


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_a_compressed_layer_is_stored_as_such_and_has_the_digest_of_its_tar_inside(registry, compression):
    plain = read(bake(f"{registry.host}/packed/m:1", [WEIGHTS]).reference)
    manifest, config = read(bake(f"{registry.host}/packed/m:{compression}", [WEIGHTS], compression=compression).reference)
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar+{compression}"
    assert layer["size"] < 1000 < plain[0]["layers"][0]["size"]
    assert config["rootfs"] == plain[1]["rootfs"]
    blob = requests.get(f"http://{registry.host}/v2/packed/m/blobs/{layer['digest']}", timeout=10).content
    inside = gzip.decompress(blob) if compression == "gzip" else zstandard.ZstdDecompressor().stream_reader(blob).read()
    assert f"sha256:{hashlib.sha256(inside).hexdigest()}" == config["rootfs"]["diff_ids"][0]


def test_a_base_of_another_registry_streams_through(registry, base, tmp_path):
    with RegistryServer(tmp_path) as other:
        result = bake(f"{other.host}/m:1", [WEIGHTS], base=base.reference)
        assert result.uploaded_bytes > 105_000
        assert resolve(result.reference).digest == result.digest
        assert bake(f"{other.host}/m:1", [WEIGHTS], base=base.reference).uploaded_bytes == 0


@pytest.fixture(scope="module")
def multi(registry):
    """A base for two platforms, with the attestation that BuildKit adds for each image."""
    entries = []
    for platform in ("linux/arm64", "linux/amd64"):
        built = bake(f"{registry.host}/multi", [Layer({"/which": File(platform.encode())})], platform=platform)
        content, _ = read(built.reference)
        system, architecture = platform.split("/")
        entry = {"mediaType": content["mediaType"], "digest": built.digest, "size": len(encode(content))}
        entries.append({**entry, "platform": {"os": system, "architecture": architecture}})
        about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": built.digest}
        entries.append({**entry, "platform": {"os": "unknown", "architecture": "unknown"}, "annotations": about})
    index = Manifest(INDEX, encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    place = Reference(registry.host, "multi", "all")
    RegistryClient(registry.host).put_manifest(place, index)
    return str(place)


def test_of_a_multi_platform_base_one_platform_is_taken_when_asked_for(registry, multi):
    result = bake(f"{registry.host}/multi:model", [WEIGHTS], base=multi, platform="linux/amd64")
    assert read(result.reference)[1]["architecture"] == "amd64"
    with pytest.raises(RegistryError, match=r"not built for linux/s390x, only for linux/amd64, linux/arm64"):
        bake(f"{registry.host}/multi:model", [WEIGHTS], base=multi, platform="linux/s390x")


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [((), ["arm64", "amd64"]), (["linux/amd64"], ["amd64"]), (["linux/amd64", "linux/arm64"], ["amd64", "arm64"])],
)
def test_an_index_stays_an_index_with_the_layer_on_each_platform(registry, multi, platforms, expected):
    target = f"{registry.host}/multi:{'-'.join(expected)}-{len(platforms)}"
    result = bake(target, [WEIGHTS], base=multi, platform=platforms, annotations={"who": "me"})
    index = document(registry.host, "multi", f"manifests/{result.digest}")
    assert [entry["platform"] for entry in index["manifests"]] == [{"os": "linux", "architecture": name} for name in expected]
    assert index["annotations"]["who"] == "me"
    assert index["annotations"]["org.opencontainers.image.base.digest"] == resolve(multi).digest
    weights = set()
    for entry in index["manifests"]:
        manifest, config = read(f"{registry.host}/multi@{entry['digest']}")
        assert config["architecture"] == entry["platform"]["architecture"]
        assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 2
        weights.add(manifest["layers"][1]["digest"])
    assert len(weights) == 1
    assert bake(target, [WEIGHTS], base=multi, platform=platforms, annotations={"who": "me"}).uploaded_bytes == 0


def test_a_missing_base_is_named(registry):
    with pytest.raises(RegistryError, match="has no image 9") as caught:
        bake(f"{registry.host}/a/m:1", [WEIGHTS], base=f"{registry.host}/bases/server:9")
    assert caught.value.repository == "bases/server"
    assert caught.value.status == 404


def test_an_artifact_holds_files_by_name(registry):
    files = {
        "engines/sm_80.engine": File(b"e" * 10),
        "about.json": File(b"{}", media_type="application/json"),
        "empty": File(b""),
    }
    target = f"{registry.host}/a/m:engines"
    result = push_artifact(target, files, artifact_type="application/vnd.test.v1", annotations={"x": "y"})
    manifest = document(registry.host, "a/m", f"manifests/{result.digest}")
    assert manifest["artifactType"] == "application/vnd.test.v1"
    assert [(layer["annotations"]["org.opencontainers.image.title"], layer["mediaType"]) for layer in manifest["layers"]] == [
        ("about.json", "application/json"),
        ("empty", "application/octet-stream"),
        ("engines/sm_80.engine", "application/octet-stream"),
    ]
    assert push_artifact(target, files, artifact_type="application/vnd.test.v1", annotations={"x": "y"}).uploaded_bytes == 0


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a//b", "./a", "a\\b", "a\nb", ""])
def test_an_artifact_has_no_file_that_its_reader_would_write_elsewhere(registry, name):
    before = len(registry.requests())
    with pytest.raises(ImageError, match=r"^artifact \('.*'\): is no plain path .* Fix: Name the file relative to it"):
        push_artifact(f"{registry.host}/a/m:evil", {name: File(b"x")}, artifact_type="application/vnd.test.v1")
    assert len(registry.requests()) == before


def test_a_compression_that_layers_cannot_have_is_refused_before_anything_is_sent(registry):
    before = len(registry.requests())
    with pytest.raises(ImageError, match=r"^compression \('xz'\): is none .* Fix: Use one of 'none', 'zstd', 'gzip'"):
        bake(f"{registry.host}/a/m:1", [WEIGHTS], compression="xz")  # pyright: ignore[reportArgumentType] - a mistake
    assert len(registry.requests()) == before


def test_oras_itself_pulls_the_artifact(registry, tmp_path):
    from oras.client import OrasClient

    push_artifact(f"{registry.host}/a/m:files", {"model.onnx": File(b"o" * 10)}, artifact_type="application/vnd.test.v1")
    OrasClient(registry.host, insecure=True).pull(f"{registry.host}/a/m:files", outdir=str(tmp_path))
    assert (tmp_path / "model.onnx").read_bytes() == b"o" * 10


def test_resolve_gives_digest_and_annotations_or_none(registry):
    baked = bake(f"{registry.host}/a/resolved:1", [CONFIG], annotations={"parity": "1.0"})
    found = resolve(f"{registry.host}/a/resolved:1")
    assert (found.reference, found.annotations) == (baked.reference, {"parity": "1.0"})
    assert resolve(f"{registry.host}/a/resolved:2") is None
    assert resolve(f"{registry.host}/never/heard:1") is None


def test_progress_only_grows_and_ends_at_the_total(registry):
    seen = []
    bake(f"{registry.host}/a/progress:1", [WEIGHTS, CONFIG], progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_credentials_come_from_the_docker_config(tmp_path, monkeypatch):
    import base64

    (tmp_path / "server").mkdir()
    with RegistryServer(tmp_path / "server", password=PASSWORD_FILE) as server:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        with pytest.raises(RegistryError, match="wants credentials") as caught:
            bake(f"{server.host}/m:1", [CONFIG])
        assert caught.value.status == 401
        assert "docker login" in str(caught.value)
        auth = base64.b64encode(":".join(CREDENTIALS).encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
        assert bake(f"{server.host}/m:1", [WEIGHTS]).uploaded_bytes > 100_000
