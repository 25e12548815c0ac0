"""`https` sources against a real server that fails in every way that a server or a line can."""

import hashlib
import os
import subprocess
import sys
import threading
from email.utils import formatdate
from pathlib import Path
from time import time
from types import SimpleNamespace

import pytest
from e2e_small_model import classifier
from faulty_http import Fault, FaultyServer

from gpuserve_images.errors import SourceError
from gpuserve_images.sources import transfer
from gpuserve_images.sources.resolving import at_hand, fetch, format_of, identity
from gpuserve_images.sources.spec import SourceSpec

MODEL = classifier().SerializeToString()
LARGE = os.urandom(3 * 2**20)
HERE = Path()


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def source(url: str, content: bytes = MODEL, **more: object) -> SourceSpec:
    return SourceSpec.parse({"url": url, "sha256": hashlib.sha256(content).hexdigest(), "format": "onnx", **more})


def blob(url: str, content: bytes = LARGE) -> SourceSpec:
    """A source of bytes that nothing looks into: what is tested is their way here."""
    return source(url, content, format="lightgbm")


def get(spec: SourceSpec, cache: Path, **more) -> Path:
    return fetch(spec, HERE, cache=cache, **more).entry


def test_a_file_arrives_once_and_stays(server, tmp_path):
    spec = source(server.put("models/small.onnx", MODEL))
    told = []
    files = fetch(spec, HERE, cache=tmp_path, progress=lambda *said: told.append(said))
    assert files.entry.read_bytes() == MODEL
    assert files.entry.name == "small.onnx"
    assert (files.format, files.sha256) == ("onnx", hashlib.sha256(MODEL).hexdigest())
    assert told[-1] == ("source", len(MODEL), len(MODEL))
    assert fetch(spec, HERE, cache=tmp_path) == files
    assert len(server.asked) == 1, "an unchanged pinned source is never downloaded again"
    assert not list((tmp_path / "partial").iterdir())


def test_the_plan_needs_no_network(tmp_path):
    spec = source("http://127.0.0.1:9/none/small.onnx")
    assert len(identity(spec, HERE)) == 64
    assert format_of(spec, HERE) == "onnx"
    assert at_hand(spec, HERE, cache=tmp_path) is None
    assert identity(spec, HERE) != identity(source("http://127.0.0.1:9/none/small.onnx", b"other"), HERE)
    assert identity(spec, HERE) == identity(source("https://mirror.example/small.onnx"), HERE), "a mirror is the same content"


def test_what_is_cached_is_at_hand(server, tmp_path):
    spec = source(server.put("small.onnx", MODEL))
    fetch(spec, HERE, cache=tmp_path)
    assert at_hand(spec, HERE, cache=tmp_path).entry.read_bytes() == MODEL


def test_the_same_content_under_another_name_is_not_downloaded_again(server, tmp_path):
    get(source(server.put("small.onnx", MODEL)), tmp_path)
    assert get(source(server.put("renamed.onnx", MODEL)), tmp_path).name == "renamed.onnx"
    assert len(server.asked) == 1


def test_a_file_that_was_changed_in_the_cache_is_downloaded_again(server, tmp_path):
    spec = source(server.put("small.onnx", MODEL))
    path = get(spec, tmp_path)
    path.chmod(0o644)
    path.write_bytes(MODEL[:-1] + bytes([MODEL[-1] ^ 1]))
    assert get(spec, tmp_path).read_bytes() == MODEL
    assert len(server.asked) == 2


class TestCuts:
    def test_a_cut_download_goes_on_where_it_was(self, server, tmp_path):
        spec = blob(server.put("a.txt", LARGE, Fault(cut_after=1_000_000), Fault(cut_after=1_500_000)))
        assert get(spec, tmp_path).read_bytes() == LARGE
        first, second, third = server.sent_ranges("a.txt")
        assert first is None
        assert [int(asked.removeprefix("bytes=").rstrip("-")) for asked in (second, third)] == [1_000_000, 2_500_000]

    def test_another_process_goes_on_with_what_a_failed_one_left(self, server, tmp_path):
        spec = blob(server.put("a.txt", LARGE, Fault(cut_after=2**20), *[Fault(status=500)] * transfer.ATTEMPTS))
        with pytest.raises(SourceError, match=r"failed 6 times in a row: HTTP 500.*what was downloaded is kept"):
            get(spec, tmp_path)
        assert not (tmp_path / "sha256").exists(), "nothing half done has a final name"
        told = []
        get(spec, tmp_path, progress=lambda *said: told.append(said[1]))
        assert server.sent_ranges("a.txt")[-1] == f"bytes={2**20}-"
        assert told[0] == 2**20
        assert told[-1] == len(LARGE)

    def test_a_server_without_ranges_starts_anew(self, tmp_path):
        with FaultyServer(ranges=False) as server:
            spec = blob(server.put("a.txt", LARGE, Fault(cut_after=1_000_000)))
            told = []
            assert get(spec, tmp_path, progress=lambda *said: told.append(said[1])).read_bytes() == LARGE
        assert told[-1] == len(LARGE)
        assert min(told[1:]) == 0, "progress goes back when the file starts anew"

    def test_a_server_without_ranges_that_always_cuts_is_given_up(self, tmp_path):
        with FaultyServer(ranges=False) as server:
            spec = blob(server.put("a.txt", LARGE, *[Fault(cut_after=1_000_000)] * 50))
            with pytest.raises(SourceError, match="times in a row: the connection was cut"):
                get(spec, tmp_path)
            assert len(server.asked) <= transfer.ATTEMPTS + 1

    def test_a_file_that_was_whole_but_not_yet_renamed(self, server, tmp_path):
        spec = blob(server.put("a.txt", LARGE))
        left = tmp_path / "partial" / spec.sha256 / "files" / "file"
        left.mkdir(parents=True)
        (left / "a.txt").write_bytes(LARGE)
        assert get(spec, tmp_path).read_bytes() == LARGE
        assert server.sent_ranges("a.txt") == [f"bytes={len(LARGE)}-"]

    @pytest.mark.parametrize("left", [os.urandom(2**20), os.urandom(len(LARGE)), os.urandom(len(LARGE) + 5)])
    def test_what_another_content_left_is_thrown_away(self, server, tmp_path, left):
        spec = blob(server.put("a.txt", LARGE))
        place = tmp_path / "partial" / spec.sha256 / "files" / "file" / "a.txt"
        place.parent.mkdir(parents=True)
        place.write_bytes(left)
        assert get(spec, tmp_path).read_bytes() == LARGE

    def test_fewer_bytes_than_announced(self, server, tmp_path):
        spec = blob(server.put("a.txt", LARGE, Fault(length=len(LARGE) + 100)))
        assert get(spec, tmp_path).read_bytes() == LARGE

    def test_more_bytes_than_announced(self, server, tmp_path):
        spec = blob(server.put("a.txt", LARGE, Fault(length=len(LARGE) - 100)))
        with pytest.raises(SourceError, match=f"{spec.sha256} was expected"):
            get(spec, tmp_path)


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (401, r"HTTP 401\): wants credentials.*~/.netrc"),
            (403, r"HTTP 403\): may not be read"),
            (404, r"HTTP 404\): does not exist"),
            (410, r"HTTP 410\): is gone"),
            (451, r"HTTP 451\): was refused"),
        ],
    )
    def test_what_stays_is_said_at_once(self, server, tmp_path, status, words):
        url = server.put("small.onnx", MODEL, *[Fault(status=status)] * 9)
        with pytest.raises(SourceError, match=words) as caught:
            get(source(url), tmp_path)
        assert url in str(caught.value)
        assert len(server.asked) == 1

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_what_may_pass_is_tried_again(self, server, tmp_path, status):
        assert get(source(server.put("small.onnx", MODEL, *[Fault(status=status)] * 3)), tmp_path).read_bytes() == MODEL
        assert len(server.asked) == 4

    def test_pauses_grow(self, server, tmp_path, no_pauses):
        get(source(server.put("small.onnx", MODEL, *[Fault(status=500)] * 4)), tmp_path)
        assert no_pauses == [0.5, 1.0, 2.0, 4.0]

    def test_a_server_that_asks_for_a_pause_gets_it(self, server, tmp_path, no_pauses):
        seconds = Fault(status=429, headers={"Retry-After": "7"})
        date = Fault(status=503, headers={"Retry-After": formatdate(time() + 20, usegmt=True)})
        get(source(server.put("small.onnx", MODEL, seconds, date)), tmp_path)
        assert no_pauses[0] == 7
        assert 18 < no_pauses[1] <= 20

    def test_a_pause_of_an_hour_is_not_waited_for(self, server, tmp_path, no_pauses):
        url = server.put("small.onnx", MODEL, Fault(status=429, headers={"Retry-After": "3600"}))
        with pytest.raises(SourceError, match="HTTP 429: too many requests, and asks for a pause of 3600 s"):
            get(source(url), tmp_path)
        assert not no_pauses

    def test_nobody_there(self, tmp_path):
        with pytest.raises(SourceError, match="failed 6 times in a row: the connection failed"):
            get(source("http://127.0.0.1:9/small.onnx"), tmp_path)

    def test_another_content_names_both_digests_and_is_removed(self, server, tmp_path):
        spec = source(server.put("small.onnx", b"another model"))
        with pytest.raises(SourceError) as caught:
            get(spec, tmp_path)
        assert spec.sha256 in str(caught.value)
        assert hashlib.sha256(b"another model").hexdigest() in str(caught.value)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "locks"]

    def test_a_login_page_is_called_one(self, server, tmp_path):
        spec = source(server.put("small.onnx", b"<!DOCTYPE html><html>Please log in</html>"))
        with pytest.raises(SourceError, match="sent a web page"):
            get(spec, tmp_path)

    def test_a_disk_without_room_is_seen_before_the_download(self, server, tmp_path, monkeypatch):
        usage = type("Usage", (), {"free": 1000})()
        monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _path: usage)
        with pytest.raises(
            SourceError, match=f"disk that is full: {len(LARGE)} bytes are still to come and 1000 bytes are free"
        ):
            get(blob(server.put("a.txt", LARGE)), tmp_path)

    def test_a_disk_that_fills_up_on_the_way(self, server, tmp_path, monkeypatch):
        plain = Path.open
        full = lambda path, mode="r", **more: plain(Path("/dev/full"), "wb") if mode == "ab" else plain(path, mode, **more)  # noqa: E731
        monkeypatch.setattr(Path, "open", full)  # a real ENOSPC from the kernel
        with pytest.raises(SourceError, match=r"is on a disk that is full.*Free space"):
            get(blob(server.put("a.txt", LARGE)), tmp_path)

    def test_a_cache_that_cannot_be_made(self, server, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(SourceError, match=r"file.*cannot be used as a folder"):
            get(source(server.put("small.onnx", MODEL)), tmp_path / "file")


class TestSecrets:
    def test_a_password_comes_from_netrc_and_is_never_shown(self, server, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password hidden-word\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        spec = source(server.put("small.onnx", MODEL, Fault(status=401)))
        with pytest.raises(SourceError) as caught:
            get(spec, tmp_path / "cache")
        assert server.asked[0].authorization.startswith("Basic ")
        assert "hidden-word" not in str(caught.value)

    def test_no_error_shows_the_query(self, server, tmp_path):
        url = server.put("small.onnx", MODEL, Fault(status=403)) + "?ticket=hidden-word#also-hidden"
        with pytest.raises(SourceError) as caught:
            get(source(url), tmp_path)
        assert "hidden" not in str(caught.value)

    def test_no_record_shows_the_address(self, server, tmp_path):
        files = fetch(source(server.put("small.onnx", MODEL) + "?ticket=hidden-word"), HERE, cache=tmp_path)
        assert "hidden" not in files.record.model_dump_json()

    def test_a_password_is_not_sent_to_where_it_redirects(self, server, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password hidden-word\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with FaultyServer() as other:
            other.put("small.onnx", MODEL)
            elsewhere = other.url.replace("127.0.0.1", "localhost") + "/small.onnx"
            url = server.put("small.onnx", MODEL, Fault(status=302, headers={"Location": elsewhere}))
            assert get(source(url), tmp_path / "cache").read_bytes() == MODEL
            assert server.asked[0].authorization
            assert other.asked[0].authorization is None


def test_two_at_once_download_once(server, tmp_path):
    spec = blob(server.put("a.txt", LARGE, Fault(delay=0.005)))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(get(spec, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert {path.read_bytes() == LARGE for path in found} == {True}
    assert len(server.asked) == 1


@pytest.mark.slow
def test_two_processes_at_once_download_once_and_a_killed_one_is_continued(server, tmp_path):
    spec = blob(server.put("a.txt", LARGE, Fault(delay=0.05)))
    program = (
        "import sys, pathlib\n"
        "from gpuserve_images.sources.resolving import fetch\n"
        "from gpuserve_images.sources.spec import SourceSpec\n"
        "said = lambda *told: print(*told, flush=True)\n"
        "fetch(SourceSpec.model_validate_json(sys.argv[1]), pathlib.Path(), cache=pathlib.Path(sys.argv[2]), progress=said)\n"
    )
    command = [sys.executable, "-c", program, spec.model_dump_json(), str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert first.stdout.readline().startswith(b"source")  # it is in the middle of it, and holds the lock
    second = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    first.kill()
    first.wait()
    assert second.wait(30) == 0
    assert len(server.asked) == 2
    assert int(server.sent_ranges("a.txt")[1].removeprefix("bytes=").rstrip("-")) >= 2**20
    assert get(spec, tmp_path).read_bytes() == LARGE
    assert len(server.asked) == 2
