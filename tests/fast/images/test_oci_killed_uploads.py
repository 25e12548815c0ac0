"""A process that is killed in the midst of a large blob: the next one sends what the registry lacks, or all of it where that is not known."""

import hashlib
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import memory
from gpuserve_images.oci.blobs import Blob, Meter, Transfer
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.uploads import Content, Upload

PIECE = 100_000
CONTENT = bytes(range(256)) * 2000  # 512,000 bytes: five pieces and a rest
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = "m/big"
KILLED = """
import sys, time
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.uploads import Content, Upload

host, name, digest, size, after, piece = sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])
content = bytes(range(256)) * (size // 256)

def chunks():
    yield content[:after]
    print("there", flush=True)
    time.sleep(60)

Upload(RegistryClient(host), Reference(host, name), digest, Content(size, chunks), piece).run()
"""


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """Send so many bytes in a process of its own, and kill it; this process remembers what that one did."""
    monkeypatch.setattr(memory, "_folder", lambda: tmp_path / "gpuserve" / "oci")

    def run(host, after, name=NAME):
        command = [sys.executable, "-c", KILLED, host, name, DIGEST, *map(str, (len(CONTENT), after, PIECE))]
        with subprocess.Popen(command, env={"XDG_CACHE_HOME": str(tmp_path)}, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"there\n"
            process.kill()

    return run


def push(host, name=NAME):
    """Send the blob as a bake does, with small pieces; return bytes sent, bytes kept and the last progress."""
    seen = []
    meter = Meter(len(CONTENT), lambda done, _: seen.append(done))
    transfer = Transfer(RegistryClient(host), Reference(host, name), meter)
    transfer.push(Blob("application/octet-stream", DIGEST, len(CONTENT), lambda: iter([CONTENT])))
    return transfer.uploaded_bytes, transfer.reused_bytes, seen[-1]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(Upload.__init__, "__defaults__", (PIECE,))


def arrived(server, count):
    """Wait until the registry has seen the end of a killed process."""
    deadline = time.monotonic() + 10
    while len(server.uploads["u0"]) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(server.uploads["u0"]) == count


@pytest.mark.parametrize("after", [50_000, 250_000, 500_000])
def test_the_next_process_sends_only_what_is_missing(server, killed, after):
    killed(server.host, after)
    arrived(server, after)
    assert push(server.host) == (len(CONTENT) - after, after, len(CONTENT))
    assert server.blobs == {DIGEST: CONTENT}
    assert server.body_bytes == len(CONTENT), "no byte went twice"
    assert server.methods().count("POST") == 1
    assert memory.recall_upload(server.host, NAME, DIGEST) is None


def test_a_registry_that_gave_the_upload_up_gets_all_of_it(server, killed):
    killed(server.host, 250_000)
    arrived(server, 250_000)
    server.forgets = True
    assert push(server.host) == (len(CONTENT), 0, len(CONTENT))
    assert server.blobs == {DIGEST: CONTENT}


def test_a_registry_that_kept_other_bytes_gets_all_of_it(server, killed):
    killed(server.host, 250_000)
    arrived(server, 250_000)
    server.uploads["u0"] = bytes(250_000)
    assert push(server.host) == (len(CONTENT), 0, len(CONTENT))
    assert server.blobs == {DIGEST: CONTENT}


def test_another_repository_and_another_registry_know_nothing_of_it(server, killed):
    killed(server.host, 250_000)
    assert push(server.host, "m/other") == (len(CONTENT), 0, len(CONTENT))
    assert server.methods().count("POST") == 2


def test_what_is_being_sent_now_is_left_alone(server, killed):
    killed(server.host, 250_000)
    arrived(server, 250_000)
    with memory.unshared(f"{server.host}/{NAME}/{DIGEST}") as alone:
        assert alone
        assert push(server.host)[:2] == (len(CONTENT), 0)
    assert server.methods().count("POST") == 2


def test_what_a_failing_registry_kept_is_not_sent_again(server, killed):
    killed(server.host, 250_000)
    arrived(server, 250_000)
    server.faults = ["500"] * 4
    with pytest.raises(RegistryError, match="HTTP 500"):
        push(server.host)
    assert push(server.host)[:2] == (len(CONTENT) - 250_000, 250_000)


def test_a_refused_upload_is_forgotten(server):
    wrong = f"sha256:{'0' * 64}"
    content = Content(len(CONTENT), lambda: iter([CONTENT]))
    with pytest.raises(RegistryError, match="HTTP 400"):
        Upload(RegistryClient(server.host), Reference(server.host, NAME), wrong, content).run()
    assert memory.recall_upload(server.host, NAME, wrong) is None


@pytest.mark.parametrize("foreign", ["http://store.example.com/b?X-Signature=1", "https://{host}/u0", "http://me:pw@{host}/u0"])
def test_addresses_of_others_are_neither_kept_nor_followed(server, monkeypatch, foreign):
    foreign = foreign.format(host=server.host)
    upload = Upload(
        RegistryClient(server.host), Reference(server.host, NAME), DIGEST, Content(len(CONTENT), lambda: iter([CONTENT]))
    )
    kept = []
    monkeypatch.setattr(memory, "remember_upload", lambda *row: kept.append(row[-1]))
    monkeypatch.setattr(memory, "recall_upload", lambda *_: foreign)
    upload.run()
    assert server.blobs == {DIGEST: CONTENT}
    assert {urlsplit(url).netloc for url in kept} == {server.host}
    monkeypatch.setattr(RegistryClient, "location", lambda *_: foreign)
    kept.clear()
    upload._remembers = True
    upload._begin()
    assert kept == []


@pytest.mark.parametrize("after", [200_000, 250_000], ids=["between pieces", "within a piece"])
def test_docker_registry_goes_on_between_pieces_and_begins_anew_within_one(registry, killed, after):
    name = f"killed/at{after}"
    killed(registry.host, after, name)
    time.sleep(0.1)
    kept = 200_000 if after == 200_000 else 0
    assert push(registry.host, name) == (len(CONTENT) - kept, kept, len(CONTENT))
    assert RegistryClient(registry.host).blob(Reference(registry.host, name), DIGEST) == CONTENT
