"""`s3` sources: objects and folders, credentials as AWS's own clients find them, refusals."""

import json
import os
from pathlib import Path

import pytest
from faulty_http import Fault, FaultyServer
from model_addresses import ONNX, listing, sha256, source

from gpuserve_images.errors import ImageError, SourceError
from gpuserve_images.sources import buckets
from gpuserve_images.sources.digests import tree_digest
from gpuserve_images.sources.pinning import pin
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec

pytestmark = pytest.mark.usefixtures("nothing_of_the_user")
HERE = Path()


@pytest.fixture
def s3(web, aws_keys, monkeypatch):
    """A server that speaks as much S3 as reading takes, and fails where it is told to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    return web


def test_an_object(s3):
    s3.put("bucket/models/small.onnx", ONNX)
    told = []
    files = fetch(source("s3://bucket/models/small.onnx"), HERE, progress=lambda *said: told.append(said))
    assert files.entry.read_bytes() == ONNX
    assert told[-1] == ("source", len(ONNX), len(ONNX))
    assert all("AKIDEXAMPLE/" in (asked.authorization or "") for asked in s3.asked)
    before = len(s3.asked)
    fetch(source("s3://bucket/models/small.onnx"), HERE)
    assert len(s3.asked) == before


def test_large_objects_come_in_blocks_and_go_on_where_they_were_cut(s3, monkeypatch):
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
def test_refusals_say_what_to_do_and_no_secret(s3, status, words):
    s3.put("bucket/small.onnx", ONNX, *[Fault(status=status)] * 9)
    with pytest.raises(SourceError, match=words) as caught:
        fetch(source("s3://bucket/small.onnx"), HERE)
    assert not any(word in str(caught.value) for word in ("hidden-word", "AKIDEXAMPLE", "Signature"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(s3, status):
    s3.put("bucket/small.onnx", ONNX, Fault(status=status), Fault(), Fault(status=status))
    assert fetch(source("s3://bucket/small.onnx"), HERE).entry.read_bytes() == ONNX


def test_absent(s3):
    s3.put("bucket", listing({}))
    with pytest.raises(SourceError, match=r"s3://bucket/none\.onnx: does not exist"):
        fetch(source("s3://bucket/none.onnx"), HERE)


def test_a_folder_of_objects(s3):
    files = {"config.json": b"{}", "sub/model.safetensors": b"weights"}
    for name, content in files.items():
        s3.put(f"bucket/m/{name}", content)
    s3.put("bucket", listing({f"m/{name}": len(content) for name, content in files.items()} | {"m/": 0}))
    digest = tree_digest({name: sha256(content) for name, content in files.items()})
    spec = SourceSpec(url="s3://bucket/m", sha256=digest, format="huggingface")
    found = fetch(spec, HERE)
    assert {name: path.read_bytes() for name, path in found.files.items()} == files
    assert found.sha256 == digest
    assert pin("s3://bucket/m").sha256 == digest
    with pytest.raises(SourceError, match=f"tree digest {digest}, and {'0' * 64} was expected; they were removed"):
        fetch(SourceSpec(url="s3://bucket/m", sha256="0" * 64, format="huggingface"), HERE)


def test_a_file_that_an_earlier_attempt_kept_and_that_changed_since_is_fetched_anew(s3):
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    digest = tree_digest({name: sha256(content) for name, content in files.items()})
    spec = SourceSpec(url="s3://bucket/m", sha256=digest, format="huggingface")
    s3.put("bucket", listing({f"m/{name}": len(content) for name, content in files.items()}))
    s3.put("bucket/m/config.json", b"[]")
    s3.put("bucket/m/model.safetensors", b"weights", Fault(status=403))
    with pytest.raises(SourceError, match="HTTP 403"):
        fetch(spec, HERE)
    s3.put("bucket/m/config.json", b"{}")
    assert (fetch(spec, HERE).entry / "config.json").read_bytes() == b"{}"
    assert len(s3.sent_ranges("bucket/m/model.safetensors")) == 2, "once in vain; what is not kept is not fetched twice"
    assert len(s3.sent_ranges("bucket/m/config.json")) == 2


def test_a_folder_that_was_copied_with_its_repository(s3):
    names = {
        "m/config.json": b"{}",
        "m/model.safetensors": b"weights",
        "m/.git/config": b"hidden",
        "m/.cache/huggingface/a": b"",
    }
    for name, content in names.items():
        s3.put(f"bucket/{name}", content)
    s3.put("bucket", listing({name: len(content) for name, content in names.items()}))
    found = pin("s3://bucket/m")
    assert found.sha256 == tree_digest({"config.json": sha256(b"{}"), "model.safetensors": sha256(b"weights")})
    files = fetch(SourceSpec(url="s3://bucket/m", sha256=found.sha256, format="huggingface"), HERE)
    assert (files.sha256, set(files.files)) == (found.sha256, {"config.json", "model.safetensors"})
    assert not [asked for asked in s3.asked if ".git" in asked.path or ".cache" in asked.path], "not even read"


def test_names_that_leave_the_folder(s3):
    s3.put("bucket", listing({"m/../../evil": 1}))
    with pytest.raises(ImageError):
        fetch(SourceSpec(url="s3://bucket/m", sha256="0" * 64, format="onnx"), HERE)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (listing({"m/a//b": 1}), r"\(m/a//b\): has an object whose key is no path of a file"),
        (b"<html>Log in<br></html>", "answers as no object store does"),
    ],
)
def test_a_list_that_cannot_be_used_is_asked_for_once(s3, answer, words):
    s3.put("bucket", answer)
    with pytest.raises(SourceError, match=words):
        pin("s3://bucket/m")
    assert len(s3.sent_ranges("bucket")) == 1


def test_a_public_bucket_needs_no_credentials(web, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.put("bucket/small.onnx", ONNX)
    assert fetch(source("s3://bucket/small.onnx"), HERE).entry.read_bytes() == ONNX
    assert {asked.authorization for asked in web.asked} == {None}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_no_proxy_is_asked_for_a_store_of_this_machine(web, aws_keys, monkeypatch, host, scheme):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    web.put("bucket/small.onnx", ONNX)
    with FaultyServer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removeprefix("http://") if name == "http_proxy" else proxy.url)
        for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"):
            monkeypatch.setenv(name, web.url.replace("127.0.0.1", host))
        assert pin(f"{scheme}://bucket/small.onnx").sha256 == sha256(ONNX)
        assert proxy.asked == []


def test_a_store_elsewhere_is_asked_through_the_proxy(web, aws_keys, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid")
    with pytest.raises(SourceError, match="does not exist"):
        pin("s3://bucket/small.onnx")
    assert web.asked[0].path.startswith("http://store.invalid/")


def test_keys_region_and_endpoint_of_a_profile(web, tmp_path, monkeypatch):
    aws = tmp_path / "home" / ".aws"
    aws.mkdir(parents=True)
    (aws / "config").write_text(f"[profile work]\nregion = eu-west-3\nendpoint_url = {web.url}\n")
    (aws / "credentials").write_text("[work]\naws_access_key_id = AKIDWORK\naws_secret_access_key = hidden-word\n")
    monkeypatch.setenv("AWS_PROFILE", "work")
    web.put("bucket/small.onnx", ONNX)
    fetch(source("s3://bucket/small.onnx"), HERE)
    assert "AKIDWORK/" in web.asked[0].authorization
    assert "/eu-west-3/s3/" in web.asked[0].authorization


def test_a_profile_with_a_program(web, tmp_path, monkeypatch):
    aws = tmp_path / "home" / ".aws"
    aws.mkdir(parents=True)
    answer = json.dumps({"Version": 1, "AccessKeyId": "AKIDPROGRAM", "SecretAccessKey": "hidden-word"})
    (aws / "printed.json").write_text(answer)
    (aws / "config").write_text(f"[default]\ncredential_process = cat {aws}/printed.json\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", web.url)
    web.put("bucket/small.onnx", ONNX)
    fetch(source("s3://bucket/small.onnx"), HERE)
    assert "AKIDPROGRAM/" in web.asked[0].authorization


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
def test_profiles_that_cannot_be_used(tmp_path, monkeypatch, config, words):
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    (tmp_path / "home" / ".aws" / "config").write_text(config)
    monkeypatch.setenv("AWS_PROFILE", "work")
    with pytest.raises(SourceError, match=words) as caught:
        fetch(source("s3://bucket/small.onnx"), HERE)
    assert "hidden-word" not in str(caught.value)
