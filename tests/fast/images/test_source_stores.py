"""`s3`, `gs`, `hf`, `oci` and `pvc` sources: against a real S3-compatible server, a real registry, and servers that speak the protocol."""

import hashlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from e2e_registry import CREDENTIALS, PASSWORD_FILE, RegistryServer
from e2e_small_model import classifier
from faulty_http import Fault, FaultyServer

from gpuserve_images.errors import ImageError, RegistryError, SourceError
from gpuserve_images.oci import File, Layer, bake, push_artifact
from gpuserve_images.sources import buckets, transfer
from gpuserve_images.sources.digests import tree_digest
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch, identity
from gpuserve_images.sources.spec import SourceSpec

ONNX = classifier().SerializeToString()
COMMIT = "c" * 40
HERE = Path()
LIST = "<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>"
OBJECT = "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
AWS_VARIABLES = [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "HF_"))]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Nothing of this machine's user: no credentials, no cache, no pauses, no machine to ask for a role."""
    for name in AWS_VARIABLES:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=lambda _seconds: None))


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-word")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


@pytest.fixture
def s3(server, keys, monkeypatch):
    """A server that speaks as much S3 as reading takes, and fails where it is told to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return server


def source(url: str, content: bytes = ONNX, **more: object) -> SourceSpec:
    return SourceSpec.parse({"url": url, "sha256": sha256(content), **more})


class TestS3:
    def test_an_object(self, s3):
        s3.put("bucket/models/small.onnx", ONNX)
        told = []
        files = fetch(source("s3://bucket/models/small.onnx"), HERE, progress=lambda *said: told.append(said))
        assert files.entry.read_bytes() == ONNX
        assert told[-1] == ("source", len(ONNX), len(ONNX))
        assert all("AKIDEXAMPLE/" in (asked.authorization or "") for asked in s3.asked)
        before = len(s3.asked)
        fetch(source("s3://bucket/models/small.onnx"), HERE)
        assert len(s3.asked) == before

    def test_large_objects_come_in_blocks_and_go_on_where_they_were_cut(self, s3, monkeypatch):
        monkeypatch.setattr(buckets, "_BLOCK_BYTES", 2**20)
        content = os.urandom(3 * 2**20 + 17)
        s3.put("bucket/a.txt", content, Fault(), Fault(), Fault(cut_after=300_000), Fault(status=503))
        spec = source("s3://bucket/a.txt", content, format="lightgbm")
        assert fetch(spec, HERE).entry.read_bytes() == content
        ranges = [tuple(map(int, asked.removeprefix("bytes=").split("-"))) for asked in s3.sent_ranges("bucket/a.txt")]
        assert ranges[0] == (0, 2**20 - 1)
        assert ranges[1] == (2**20, 2**21 - 1), "the second block, which is cut"
        assert 2**20 <= ranges[3][0] <= 2**20 + 300_000, "and not from the start again"
        assert max(end for _, end in ranges) == len(content) - 1

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (403, r"HTTP 403\): may not be read with these credentials.*AWS_PROFILE"),
            (401, r"HTTP 401\): wants other credentials"),
            (301, r"HTTP 301\): lies in another region.*AWS_REGION"),
            (400, r"HTTP 400\): was refused"),
        ],
    )
    def test_refusals_say_what_to_do_and_no_secret(self, s3, status, words):
        s3.put("bucket/small.onnx", ONNX, *[Fault(status=status)] * 9)
        with pytest.raises(SourceError, match=words) as caught:
            fetch(source("s3://bucket/small.onnx"), HERE)
        assert not any(word in str(caught.value) for word in ("hidden-word", "AKIDEXAMPLE", "Signature"))

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_what_may_pass_is_tried_again(self, s3, status):
        s3.put("bucket/small.onnx", ONNX, Fault(status=status), Fault(), Fault(status=status))
        assert fetch(source("s3://bucket/small.onnx"), HERE).entry.read_bytes() == ONNX

    def test_absent(self, s3):
        s3.put("bucket", LIST.format("").encode())
        with pytest.raises(SourceError, match=r"s3://bucket/none\.onnx: does not exist"):
            fetch(source("s3://bucket/none.onnx"), HERE)

    def test_a_folder_of_objects(self, s3):
        files = {"config.json": b"{}", "sub/model.safetensors": b"weights"}
        for name, content in files.items():
            s3.put(f"bucket/m/{name}", content)
        objects = "".join(OBJECT.format(f"m/{name}", len(content)) for name, content in files.items())
        s3.put("bucket", LIST.format(objects + OBJECT.format("m/", 0)).encode())
        digest = tree_digest({name: sha256(content) for name, content in files.items()})
        spec = SourceSpec(url="s3://bucket/m", sha256=digest, format="huggingface")
        found = fetch(spec, HERE)
        assert {name: path.read_bytes() for name, path in found.files.items()} == files
        assert found.sha256 == digest
        assert pin("s3://bucket/m").sha256 == digest
        with pytest.raises(SourceError, match=f"tree digest {digest}, and {'0' * 64} was expected; they were removed"):
            fetch(SourceSpec(url="s3://bucket/m", sha256="0" * 64, format="huggingface"), HERE)

    def test_names_that_leave_the_folder(self, s3):
        s3.put("bucket", LIST.format(OBJECT.format("m/../../evil", 1)).encode())
        with pytest.raises(ImageError):
            fetch(SourceSpec(url="s3://bucket/m", sha256="0" * 64, format="onnx"), HERE)

    def test_a_public_bucket_needs_no_credentials(self, server, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.put("bucket/small.onnx", ONNX)
        assert fetch(source("s3://bucket/small.onnx"), HERE).entry.read_bytes() == ONNX
        assert {asked.authorization for asked in server.asked} == {None}

    def test_keys_region_and_endpoint_of_a_profile(self, server, tmp_path, monkeypatch):
        aws = tmp_path / "home" / ".aws"
        aws.mkdir(parents=True)
        (aws / "config").write_text(f"[profile work]\nregion = eu-west-3\nendpoint_url = {server.url}\n")
        (aws / "credentials").write_text("[work]\naws_access_key_id = AKIDWORK\naws_secret_access_key = hidden-word\n")
        monkeypatch.setenv("AWS_PROFILE", "work")
        server.put("bucket/small.onnx", ONNX)
        fetch(source("s3://bucket/small.onnx"), HERE)
        assert "AKIDWORK/" in server.asked[0].authorization
        assert "/eu-west-3/s3/" in server.asked[0].authorization

    def test_a_profile_with_a_program(self, server, tmp_path, monkeypatch):
        aws = tmp_path / "home" / ".aws"
        aws.mkdir(parents=True)
        answer = json.dumps({"Version": 1, "AccessKeyId": "AKIDPROGRAM", "SecretAccessKey": "hidden-word"})
        (aws / "printed.json").write_text(answer)
        (aws / "config").write_text(f"[default]\ncredential_process = cat {aws}/printed.json\n")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        server.put("bucket/small.onnx", ONNX)
        fetch(source("s3://bucket/small.onnx"), HERE)
        assert "AKIDPROGRAM/" in server.asked[0].authorization

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ("[profile work]\nsso_session = x\n", "only a login or a role.*export-credentials --profile work"),
            ("[profile work]\nrole_arn = arn:x\nsource_profile = y\n", "only a login or a role"),
            ("[profile work]\ncredential_process = false\n", "`credential_process` of AWS profile 'work' failed"),
            ("[profile other]\n", "there is no AWS profile 'work'"),
            ("hidden-word", "configuration file is not readable"),
        ],
    )
    def test_profiles_that_cannot_be_used(self, tmp_path, monkeypatch, config, words):
        (tmp_path / "home" / ".aws").mkdir(parents=True)
        (tmp_path / "home" / ".aws" / "config").write_text(config)
        monkeypatch.setenv("AWS_PROFILE", "work")
        with pytest.raises(SourceError, match=words) as caught:
            fetch(source("s3://bucket/small.onnx"), HERE)
        assert "hidden-word" not in str(caught.value)


@pytest.mark.slow
class TestRealS3:
    """moto's server, which is what AWS's own clients are tested against."""

    @pytest.fixture(scope="class")
    @classmethod
    def endpoint(cls, tmp_path_factory):
        from environments import environment

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
        command = [str(environment("s3")), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    requests.put(f"{url}/models", timeout=5).raise_for_status()
                    break
                except requests.RequestException:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(10)

    @pytest.fixture
    def put(self, endpoint, keys, monkeypatch):
        import obstore
        from obstore.store import S3Store

        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        store = S3Store("models", client_options={"allow_http": True})
        return lambda key, content: obstore.put(store, key, content)

    def test_an_object_of_several_blocks_continued_by_another_process(self, put):
        content = os.urandom(2 * buckets._BLOCK_BYTES + 12345)
        spec = source("s3://models/big/weights-e.txt", content, format="lightgbm")
        put("big/weights-e.txt", content)
        left = Path(os.environ["XDG_CACHE_HOME"], "gpuserve/sources/partial", spec.sha256, "files/file/weights-e.txt")
        left.parent.mkdir(parents=True)
        left.write_bytes(content[:1_000_000])
        told = []
        assert fetch(spec, HERE, progress=lambda *said: told.append(said[1])).entry.read_bytes() == content
        assert told[0] == 1_000_000, "the bytes that were there are not asked for"
        assert told[-1] == len(content)

    def test_a_folder_and_its_pin(self, put):
        files = {"config.json": b"{}", "model-00001.safetensors": os.urandom(1000), "deep/er/vocab.txt": b"words"}
        for name, content in files.items():
            put(f"hf/{name}", content)
        found = pin("s3://models/hf/")
        assert found.size == sum(map(len, files.values()))
        spec = SourceSpec.parse({**found.source, "format": "huggingface"})
        assert {name: path.read_bytes() for name, path in fetch(spec, HERE).files.items()} == files

    def test_absent_wrong_and_changed(self, put):
        put("small.onnx", ONNX)
        with pytest.raises(SourceError, match="does not exist"):
            fetch(source("s3://models/none.onnx"), HERE)
        with pytest.raises(SourceError, match=f"{sha256(ONNX)}, and {sha256(b'')} was expected"):
            fetch(source("s3://models/small.onnx", b""), HERE)
        assert fetch(source("s3://models/small.onnx"), HERE).entry.read_bytes() == ONNX

    def test_a_bucket_that_is_not_there(self, put):
        with pytest.raises(SourceError, match="does not exist"):
            fetch(source("s3://another-bucket/small.onnx"), HERE)


class TestGoogle:
    @pytest.fixture
    def gs(self, server, monkeypatch):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        return server

    def test_an_object(self, gs):
        gs.put("bucket/models/small.onnx", ONNX, Fault(status=503), Fault(), Fault(cut_after=100))
        assert fetch(source("gs://bucket/models/small.onnx"), HERE).entry.read_bytes() == ONNX
        assert len(gs.sent_ranges("bucket/models/small.onnx")) == 2, "the cut one and another"

    def test_a_folder(self, gs):
        gs.put("bucket/m/small.onnx", ONNX)
        gs.put("bucket", LIST.format(OBJECT.format("m/small.onnx", len(ONNX))).encode())
        spec = SourceSpec(url="gs://bucket/m", sha256=tree_digest({"small.onnx": sha256(ONNX)}), format="onnx")
        assert fetch(spec, HERE).entry.read_bytes() == ONNX

    def test_refused(self, gs):
        gs.put("bucket/small.onnx", ONNX, Fault(status=403))
        with pytest.raises(SourceError, match=r"may not be read with these credentials.*GOOGLE_APPLICATION_CREDENTIALS"):
            fetch(source("gs://bucket/small.onnx"), HERE)


class TestHuggingFace:
    REPOSITORY = "owner/model"
    FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "sub/vocab.txt": b"words"}  # noqa: RUF012

    @pytest.fixture
    def hub(self, server, monkeypatch):
        """The requests of the Hub's API that reading a repository takes."""
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        self.publish(server, self.FILES)
        return server

    def publish(self, server, files):
        entries = [self.entry(name, content) for name, content in files.items()]
        api = f"api/models/{self.REPOSITORY}"
        plain = {"Content-Type": "application/json"}
        server.put(f"{api}/tree/{COMMIT}", json.dumps(entries).encode(), *[Fault(headers=plain)] * 9)
        server.put(f"{api}/revision/main", json.dumps({"id": self.REPOSITORY, "sha": COMMIT}).encode())
        server.put(api, json.dumps({"id": self.REPOSITORY, "sha": COMMIT}).encode())
        for name, content in files.items():
            server.put(f"{self.REPOSITORY}/resolve/{COMMIT}/{name}", content)

    def entry(self, name, content):
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        lfs = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
        large = name.endswith(".safetensors")
        return {"type": "file", "path": name, "size": len(content), "oid": blob} | ({"lfs": lfs} if large else {})

    def spec(self, path="", **more):
        return SourceSpec.parse({"url": f"hf://{self.REPOSITORY}@{COMMIT}{path}", **more})

    def test_a_repository_at_a_commit(self, hub):
        found = fetch(self.spec(), HERE)
        assert found.format == "huggingface"
        assert {name: path.read_bytes() for name, path in found.files.items()} == self.FILES
        before = len(hub.asked)
        assert fetch(self.spec(), HERE) == found
        assert len(hub.asked) == before

    def test_only_what_is_wanted(self, hub):
        hub.put("unused", b"")
        self.publish(hub, {**self.FILES, "pytorch_model.bin": b"pickle"})
        with pytest.raises(SourceError, match=r"pytorch_model.bin\): is a pickle.*`include:`"):
            fetch(self.spec(), HERE)
        found = fetch(self.spec(include=["*.json", "*.safetensors"]), HERE)
        assert set(found.files) == {"config.json", "model.safetensors"}
        assert identity(self.spec(), HERE) != identity(self.spec(include=["*.json"]), HERE)

    def test_one_file(self, hub):
        self.publish(hub, {"onnx/model.onnx": ONNX})
        one = [self.entry("onnx/model.onnx", ONNX)]
        hub.put(f"api/models/{self.REPOSITORY}/paths-info/{COMMIT}", json.dumps(one).encode())
        assert fetch(self.spec("/onnx/model.onnx"), HERE).entry.read_bytes() == ONNX

    def test_a_token_is_sent_and_never_shown(self, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_hidden")
        url = f"{self.REPOSITORY}/resolve/{COMMIT}/config.json"
        hub.put(url, b"{}", Fault(status=403))
        with pytest.raises(SourceError, match=r"HTTP 403.*HF_TOKEN") as caught:
            fetch(self.spec(), HERE)
        assert {asked.authorization for asked in hub.asked} == {"Bearer hf_hidden"}
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_every_file_is_verified(self, hub, name):
        hub.put(f"{self.REPOSITORY}/resolve/{COMMIT}/{name}", b"other" + bytes(len(self.FILES[name])))
        with pytest.raises(SourceError, match=r"was expected|sent"):
            fetch(self.spec(), HERE)

    @pytest.mark.parametrize(
        ("status", "headers", "words"),
        [
            (404, {"X-Error-Code": "RepoNotFound"}, "does not exist, or is private"),
            (404, {"X-Error-Code": "RevisionNotFound"}, "has no such commit"),
            (403, {"X-Error-Code": "GatedRepo"}, "accepted its terms"),
            (403, {}, "may not be read"),
        ],
    )
    def test_refusals(self, hub, status, headers, words):
        hub.put(f"api/models/{self.REPOSITORY}/tree/{COMMIT}", b"", *[Fault(status=status, headers=headers)] * 9)
        with pytest.raises(SourceError, match=words):
            fetch(self.spec(), HERE)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_what_may_pass_is_tried_again(self, hub, status):
        tree, file = f"api/models/{self.REPOSITORY}/tree/{COMMIT}", f"{self.REPOSITORY}/resolve/{COMMIT}/config.json"
        plain = Fault(headers={"Content-Type": "application/json"})
        hub.put(tree, hub.files[tree], Fault(status=status), Fault(status=status), *[plain] * 9)
        hub.put(file, b"{}", Fault(status=status))
        assert set(fetch(self.spec(), HERE).files) == set(self.FILES)
        assert [asked.path.partition("?")[0] for asked in hub.asked].count(f"/{tree}") == 3

    def test_a_long_list_comes_in_pages(self, hub):
        tree = f"api/models/{self.REPOSITORY}/tree/{COMMIT}"
        entries = [{"type": "directory", "path": "sub", "oid": "0" * 40, "size": 0}]
        entries += [self.entry(name, content) for name, content in self.FILES.items()]
        hub.put("more", json.dumps(entries[2:]).encode())
        follows = {"Link": f'<{hub.url}/more>; rel="next"'}
        hub.put(tree, json.dumps(entries[:2]).encode(), Fault(headers=follows))
        assert {name: path.read_bytes() for name, path in fetch(self.spec(), HERE).files.items()} == self.FILES

    @pytest.mark.parametrize("status", [429, 502])
    def test_a_hub_that_stays_away_is_given_up(self, hub, status):
        hub.put(f"api/models/{self.REPOSITORY}/tree/{COMMIT}", b"", *[Fault(status=status)] * 99)
        with pytest.raises(SourceError, match=f"failed 6 times in a row: HTTP {status}: the hub failed"):
            fetch(self.spec(), HERE)

    def test_a_hub_that_asks_for_an_hour_is_not_waited_for(self, hub):
        hub.put(f"api/models/{self.REPOSITORY}/tree/{COMMIT}", b"", *[Fault(status=429, headers={"Retry-After": "3600"})] * 9)
        with pytest.raises(SourceError, match="HTTP 429: the hub failed, and asks for a pause of 3600 s"):
            fetch(self.spec(), HERE)

    def test_a_cut_file_is_continued(self, hub):
        url = f"{self.REPOSITORY}/resolve/{COMMIT}/model.safetensors"
        hub.put(url, self.FILES["model.safetensors"], Fault(cut_after=1000))
        fetch(self.spec(), HERE)
        assert hub.sent_ranges(url) == [None, "bytes=1000-"]

    def test_the_pin_is_the_commit(self, hub):
        assert pin(f"hf://{self.REPOSITORY}").source == {"url": f"hf://{self.REPOSITORY}@{COMMIT}"}
        assert pin(f"hf://{self.REPOSITORY}@main/sub").url == f"hf://{self.REPOSITORY}@{COMMIT}/sub"


class TestRegistry:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "small.onnx").write_bytes(ONNX)
        (tmp_path / "notes.txt").write_bytes(b"notes")
        return tmp_path

    def test_an_artifact_reads_back(self, registry, folder):
        files = {"deep/small.onnx": File(folder / "small.onnx"), "notes.txt": File(folder / "notes.txt")}
        pushed = push_artifact(f"{registry.host}/models/source:1", files, artifact_type="application/vnd.test")
        spec = SourceSpec(url=f"oci://{pushed.reference}", format="onnx")
        assert fetch(spec, HERE).entry.read_bytes() == ONNX
        before = len(registry.requests())
        assert fetch(spec, HERE).entry.read_bytes() == ONNX
        assert len(registry.requests()) == before
        assert pin(f"oci://{registry.host}/models/source:1").source == {"url": spec.url}

    def test_a_model_only_image_reads_back(self, registry, folder):
        layers = [
            Layer({"/model/1/small.onnx": File(folder / "small.onnx")}),
            Layer({"/model/notes.txt": File(folder / "notes.txt")}),
        ]
        pushed = bake(f"{registry.host}/models/image:1", layers, base=None)
        assert fetch(SourceSpec(url=f"oci://{pushed.reference}", format="onnx"), HERE).entry.read_bytes() == ONNX

    def test_what_a_killed_process_left_is_continued(self, registry, folder):
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

    def test_absent(self, registry):
        with pytest.raises(SourceError, match="does not exist: the registry has no sha256:0000"):
            fetch(SourceSpec(url=f"oci://{registry.host}/models/none@sha256:{'0' * 64}", format="onnx"), HERE)

    def test_credentials_of_docker(self, folder, tmp_path_factory, monkeypatch):
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


class TestVolumes:
    @pytest.fixture
    def claim(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GPUSERVE_PVC_MOUNTS", str(tmp_path / "mounts"))
        place = tmp_path / "mounts" / "claim"
        (place / "models").mkdir(parents=True)
        (place / "models" / "small.onnx").write_bytes(ONNX)
        return place

    def test_a_file_and_a_folder_where_they_lie(self, claim):
        assert fetch(source("pvc://claim/models/small.onnx"), HERE).entry == claim / "models" / "small.onnx"
        spec = SourceSpec(url="pvc://claim/models", sha256=tree_digest({"small.onnx": sha256(ONNX)}), format="onnx")
        assert fetch(spec, HERE).entry == claim / "models" / "small.onnx"
        assert pin("pvc://claim/models").source == {"url": "pvc://claim/models", "sha256": spec.sha256}
        assert pin("pvc://claim/models/small.onnx").sha256 == sha256(ONNX)

    def test_outside_of_the_cluster(self, monkeypatch):
        monkeypatch.delenv("GPUSERVE_PVC_MOUNTS", raising=False)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(SourceError, match=r"this machine is outside of it.*`builder: job`"):
            fetch(source("pvc://claim/models/small.onnx"), HERE)
        assert identity(source("pvc://claim/models/small.onnx"), HERE)

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("pvc://other/models/small.onnx", "is not mounted at .*Mount claim 'other'"),
            ("pvc://claim/models/none.onnx", "does not exist in claim 'claim'"),
            ("pvc://claim/models/link.onnx", "is a link that leaves its claim"),
        ],
    )
    def test_what_is_not_there(self, claim, tmp_path, url, words):
        (tmp_path / "secret.onnx").write_bytes(ONNX)
        (claim / "models" / "link.onnx").symlink_to(tmp_path / "secret.onnx")
        with pytest.raises(SourceError, match=words):
            fetch(source(url), HERE)

    def test_changed_content(self, claim):
        (claim / "models" / "small.onnx").write_bytes(b"other")
        with pytest.raises(SourceError, match=f"has the digest {sha256(b'other')}, and {sha256(ONNX)} was expected"):
            fetch(source("pvc://claim/models/small.onnx"), HERE)

    def test_a_pickle_in_a_volume(self, claim):
        (claim / "models" / "small.onnx").write_bytes(b"\x80\x04.")
        with pytest.raises(SourceError, match="is a pickle"):
            fetch(source("pvc://claim/models/small.onnx", b"\x80\x04."), HERE)


def test_a_pin_of_a_file_is_its_digest_and_nothing_is_kept(server):
    url = server.put("small.onnx", ONNX, Fault(cut_after=50))
    found = pin(url)
    assert (found.sha256, found.size) == (sha256(ONNX), len(ONNX))
    assert SourceSpec.parse(found.source).sha256 == sha256(ONNX)
    assert not Path(os.environ["XDG_CACHE_HOME"]).exists()


@pytest.mark.parametrize("url", ["nothing", "https://a:hidden@host.example/m.onnx", "s3://bucket"])
def test_a_pin_of_no_address(url):
    with pytest.raises(SourceError) as caught:
        pin(url)
    assert "hidden" not in str(caught.value)
