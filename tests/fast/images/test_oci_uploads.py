"""Large blobs: sent in pieces, gone on with after a cut, begun anew where the registry forgot. Small pieces stand for large blobs."""

import hashlib
import socket
import threading
from contextlib import suppress

import pytest

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, Layer, bake, retries
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.uploads import Content, Upload

pytestmark = pytest.mark.slow

PIECE = 100_000
CONTENT = bytes(range(256)) * 2000  # 512,000 bytes: five pieces and a rest
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def chunks(content=CONTENT, size=7000):
    return lambda: iter(content[start : start + size] for start in range(0, len(content), size))


def upload(host, sent=None, made=None, digest=DIGEST):
    content = Content(len(CONTENT), made or chunks(), sent)
    Upload(RegistryClient(host), Reference(host, "m"), digest, content, PIECE).run()


def test_a_large_blob_goes_in_pieces(server):
    sent = []
    upload(server.host, sent.append)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods() == ["POST", *["PATCH"] * 6, "PUT"]
    assert sum(sent) == len(CONTENT)


def test_a_small_blob_goes_in_one_request(server):
    content = b"small"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    Upload(RegistryClient(server.host), Reference(server.host, "m"), digest, Content(5, chunks(content)), PIECE).run()
    assert server.methods() == ["POST", "PUT"]


def test_a_larger_least_piece_is_respected(server):
    server.least = "300000"
    upload(server.host)
    assert server.methods() == ["POST", "PATCH", "PATCH", "PUT"]


@pytest.mark.parametrize("kept", [1, 50_000, 99_999])
def test_after_a_cut_the_upload_goes_on_from_what_the_registry_has(server, kept):
    server.faults = [None, None, kept]
    sent = []
    upload(server.host, sent.append)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods().count("POST") == 1
    assert server.body_bytes == len(CONTENT) - kept, "what the registry has is not sent again"
    assert sum(sent) == len(CONTENT), "progress counts each byte once"


@pytest.mark.parametrize("fault", ["500", "lost answer"])
def test_a_failed_piece_or_a_lost_answer_costs_at_most_the_piece(server, fault):
    server.faults = [None, fault]
    upload(server.host)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods().count("POST") == 1


def test_the_final_answer_that_is_lost_is_not_taken_for_a_failure(server):
    server.faults = [None] * 6 + ["lost at the end"]
    upload(server.host)
    assert server.blobs == {DIGEST: CONTENT}


def test_a_line_that_breaks_often_but_gets_on_is_enough(server):
    server.faults = [60_000] * 8
    upload(server.host)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods().count("POST") == 1


def test_a_line_that_never_gets_on_ends_with_an_error(server):
    server.faults = [1] * 99
    with pytest.raises(RegistryError, match=r"connection broke|not reachable"):
        upload(server.host)
    assert not server.blobs
    assert len(server.requests) < 20


def test_a_registry_that_forgot_the_upload_gets_it_anew(server):
    server.faults, server.forgets = [None, 50_000], True
    upload(server.host)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods().count("POST") == 2


def test_a_registry_that_kept_something_else_gets_it_anew(server):
    server.faults = [None, "wrong bytes"]
    upload(server.host)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods().count("POST") == 2


def test_a_registry_that_takes_no_pieces_gets_one_request(server):
    server.takes_pieces = False
    upload(server.host)
    assert server.blobs == {DIGEST: CONTENT}
    assert server.methods() == ["POST", "PATCH", "POST", "PUT"]


def test_content_of_another_digest_is_refused_and_not_sent_for_ever(server):
    with pytest.raises(RegistryError, match="found the request wrong"):
        upload(server.host, digest="sha256:" + "0" * 64)


@pytest.mark.parametrize("other", [CONTENT[:-1], CONTENT + b"x", b""])
def test_content_that_changed_its_size_is_refused(server, other):
    with pytest.raises(ImageError, match="changed its size"):
        upload(server.host, made=chunks(other))
    assert not server.blobs


@pytest.mark.parametrize("seek", [None, lambda start: iter([CONTENT[start:]])], ids=["reads and drops", "seeks"])
def test_content_can_be_read_from_anywhere(seek):
    content = Content(
        len(CONTENT), chunks() if seek is None else lambda: pytest.fail("it was read from its beginning"), seek=seek
    )
    for start, length in ((0, 10), (10, 90_000), (5, 7), (400_000, 112_000), (0, 512_000)):
        assert b"".join(content.part(start, length)) == CONTENT[start : start + length]


class _Cutting(threading.Thread):
    """A line to a registry that breaks off after each so many bytes, `cuts` times."""

    def __init__(self, host, after, cuts):
        super().__init__(daemon=True)
        self._target = ("127.0.0.1", int(host.split(":")[1]))
        self._after, self.cuts = after, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.start()

    def run(self):
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(self._target)
            for source, target, out in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._copy, args=(source, target, out), daemon=True).start()

    def _copy(self, source, target, out):
        passed = 0
        with suppress(OSError):
            while data := source.recv(16384):
                passed += len(data)
                if out and self.cuts and passed > self._after:
                    self.cuts -= 1
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("cuts", [0, 1, 3])
def test_a_real_registry_behind_a_bad_line_gets_every_byte(registry, monkeypatch, cuts):
    """It forgets an upload that broke off in a piece, so the upload begins anew; what arrives is whole."""
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(Upload.__init__, "__defaults__", (PIECE,))
    line = _Cutting(registry.host, 600_000, cuts)
    layers = [Layer({f"/m{number}": File(bytes([number]) * 1_000_000)}) for number in range(3)]
    result = bake(f"{line.host}/bad/line{cuts}:1", layers)
    assert line.cuts == 0
    assert bake(f"{registry.host}/bad/line{cuts}:1", layers).uploaded_bytes == 0
    assert result.uploaded_bytes > 3_000_000
