"""`oci` sources, from a real registry."""

import json
import os
from pathlib import Path

import pytest
from e2e_registry import CREDENTIALS, PASSWORD_FILE, RegistryServer
from model_addresses import ONNX, sha256

from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.oci import File, Layer, bake, push_artifact
from gpuserve_images.sources.digests import tree_digest
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
HERE = Path()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.onnx").write_bytes(ONNX)
    (tmp_path / "notes.txt").write_bytes(b"notes")
    return tmp_path


def test_an_artifact_reads_back(registry, folder):
    files = {"deep/small.onnx": File(folder / "small.onnx"), "notes.txt": File(folder / "notes.txt")}
    pushed = push_artifact(f"{registry.host}/models/source:1", files, artifact_type="application/vnd.test")
    spec = SourceSpec(url=f"oci://{pushed.reference}", format="onnx")
    assert fetch(spec, HERE).entry.read_bytes() == ONNX
    before = len(registry.requests())
    assert fetch(spec, HERE).entry.read_bytes() == ONNX
    assert len(registry.requests()) == before
    assert pin(f"oci://{registry.host}/models/source:1").source == {"url": spec.url}


def test_a_declared_digest_is_checked_in_the_cache_too(registry, folder):
    files = {"small.onnx": File(folder / "small.onnx")}
    pushed = push_artifact(f"{registry.host}/models/declared:1", files, artifact_type="application/vnd.test")
    spec = {"url": f"oci://{pushed.reference}", "format": "onnx"}
    fetch(SourceSpec.parse(spec), HERE)
    good = tree_digest({"small.onnx": sha256(ONNX)})
    assert fetch(SourceSpec.parse({**spec, "sha256": good}), HERE).entry.read_bytes() == ONNX
    with pytest.raises(SourceError, match=f"has the digest {good}, and {'0' * 64} was expected"):
        fetch(SourceSpec.parse({**spec, "sha256": "0" * 64}), HERE)


def test_a_model_only_image_reads_back(registry, folder):
    layers = [
        Layer({"/model/1/small.onnx": File(folder / "small.onnx")}),
        Layer({"/model/notes.txt": File(folder / "notes.txt")}),
    ]
    pushed = bake(f"{registry.host}/models/image:1", layers, base=None)
    assert fetch(SourceSpec(url=f"oci://{pushed.reference}", format="onnx"), HERE).entry.read_bytes() == ONNX


def test_what_a_killed_process_left_is_continued(registry, folder):
    content = os.urandom(2**20)
    (folder / "weights.txt").write_bytes(content)
    files = {"weights.txt": File(folder / "weights.txt")}
    pushed = push_artifact(f"{registry.host}/models/large:1", files, artifact_type="application/vnd.test")
    digest = pushed.digest.removeprefix("sha256:")
    left = Path(os.environ["XDG_CACHE_HOME"], "gpuserve/sources/partial", digest, "files/folder/weights.txt")
    left.parent.mkdir(parents=True)
    left.write_bytes(content[:700_000])
    told = []
    spec = SourceSpec(url=f"oci://{pushed.reference}", format="lightgbm", path="weights.txt")
    assert fetch(spec, HERE, progress=lambda *said: told.append(said[1])).entry.read_bytes() == content
    assert told[0] == 700_000
    assert told[1] > 700_000


@pytest.mark.parametrize(
    ("titles", "words"),
    [
        (["x" * 256], r"has a file whose name no file here can have: it is longer than 255 bytes"),
        (["\ud800.onnx"], r"\('\\ud800.onnx'\): has a file whose name no file here can have"),
        (["a.onnx", "a.onnx"], r"\(a.onnx\): has two files of one name"),
    ],
    ids=["long", "no text", "twice"],
)
def test_names_that_no_files_can_have(web, titles, words):
    layer = {"mediaType": "application/octet-stream", "digest": f"sha256:{sha256(ONNX)}", "size": len(ONNX)}
    layers = [{**layer, "annotations": {"org.opencontainers.image.title": title}} for title in titles]
    manifest = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
    web.put(f"v2/models/a/manifests/sha256:{sha256(manifest)}", manifest)
    url = f"oci://{web.url.removeprefix('http://')}/models/a@sha256:{sha256(manifest)}"
    with pytest.raises(SourceError, match=words):
        fetch(SourceSpec(url=url, format="onnx"), HERE)
    assert len(web.asked) == 1, "before anything is downloaded"


def test_absent(registry):
    with pytest.raises(SourceError, match="does not exist: the registry has no sha256:0000"):
        fetch(SourceSpec(url=f"oci://{registry.host}/models/none@sha256:{'0' * 64}", format="onnx"), HERE)


def test_credentials_of_docker(folder, tmp_path_factory, monkeypatch):
    from base64 import b64encode

    with RegistryServer(tmp_path_factory.mktemp("closed"), password=PASSWORD_FILE) as closed:
        with pytest.raises(RegistryError, match="HTTP 401"):
            fetch(SourceSpec(url=f"oci://{closed.host}/models/a@sha256:{'0' * 64}", format="onnx"), HERE)
        config = folder / "docker"
        config.mkdir()
        login = b64encode(":".join(CREDENTIALS).encode()).decode()
        (config / "config.json").write_text(json.dumps({"auths": {closed.host: {"auth": login}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(config))
        files = {"small.onnx": File(folder / "small.onnx")}
        pushed = push_artifact(f"{closed.host}/models/a:1", files, artifact_type="application/vnd.test")
        assert fetch(SourceSpec(url=f"oci://{pushed.reference}", format="onnx"), HERE).entry.read_bytes() == ONNX
