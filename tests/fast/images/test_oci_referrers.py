"""Documents about images, in a real registry without the referrers endpoint and in a small one with it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, Layer, attach, bake, read_artifact, resolve
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.referrers import referrers

INDEX = "application/vnd.oci.image.index.v1+json"
REPORT, BILL = "application/vnd.test.report.v1+json", "application/vnd.test.bill.v1+json"


@pytest.fixture
def image(registry, request):
    return bake(
        f"{registry.host}/about/{request.node.name.lower().replace('[', '-').rstrip(']')}:1", [Layer({"/m": File(b"m")})]
    )


def test_documents_are_listed_by_type_with_their_annotations(image):
    first = attach(image.reference, {"report.json": File(b"{}")}, artifact_type=REPORT, annotations={"passed": "yes"})
    attach(image.reference, {"bill.json": File(b"{}")}, artifact_type=BILL)
    assert {one.artifact_type for one in referrers(image.reference)} == {REPORT, BILL}
    (found,) = referrers(image.reference, artifact_type=REPORT)
    assert (found.reference, found.digest, found.annotations) == (first.reference, first.digest, {"passed": "yes"})


def test_a_document_is_read_back(image):
    attach(image.reference, {"report.json": File(b"{}"), "plots/one.svg": File(b"<svg/>")}, artifact_type=REPORT)
    (found,) = referrers(image.reference)
    assert read_artifact(found.reference) == {"report.json": b"{}", "plots/one.svg": b"<svg/>"}
    with pytest.raises(ImageError, match="have no names"):
        read_artifact(image.reference)
    with pytest.raises(RegistryError, match="has no artifact"):
        read_artifact(image.reference.split("@")[0] + ":never")


def test_a_tag_means_what_it_names_and_the_image_stays_as_it_was(registry, image):
    tag = image.reference.split("@")[0] + ":1"
    attach(tag, {"report.json": File(b"{}")}, artifact_type=REPORT)
    assert len(referrers(tag)) == len(referrers(image.reference)) == 1
    assert resolve(tag).digest == image.digest


def test_the_same_document_again_changes_nothing(registry, image):
    first = attach(image.reference, {"report.json": File(b"{}")}, artifact_type=REPORT)
    second = attach(image.reference, {"report.json": File(b"{}")}, artifact_type=REPORT)
    assert first.digest == second.digest
    assert len(referrers(image.reference)) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_a_newer_document_may_take_the_place_of_the_older(image, replace):
    attach(image.reference, {"bill.json": File(b"{}")}, artifact_type=BILL)
    for text in (b"old", b"new"):
        attach(image.reference, {"report.json": File(text)}, artifact_type=REPORT, replace=replace)
    assert len(referrers(image.reference, artifact_type=REPORT)) == (1 if replace else 2)
    assert len(referrers(image.reference, artifact_type=BILL)) == 1


def test_documents_attached_at_once_are_all_listed(image):
    def one(number):
        attach(image.reference, {"n": File(str(number).encode())}, artifact_type=REPORT)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(referrers(image.reference)) == 6


def test_an_image_that_is_not_there_is_named(registry):
    with pytest.raises(RegistryError, match="no image 7 to attach to"):
        attach(f"{registry.host}/about/none:7", {"a": File(b"")}, artifact_type=REPORT)
    with pytest.raises(RegistryError, match="no image 7"):
        referrers(f"{registry.host}/about/none:7")


def test_a_document_without_files_is_refused(image):
    with pytest.raises(ImageError, match="no files"):
        attach(image.reference, {}, artifact_type=REPORT)


def test_bytes_that_are_not_what_the_digest_says_are_refused(monkeypatch, image):
    attach(image.reference, {"report.json": File(b"{}")}, artifact_type=REPORT)
    (found,) = referrers(image.reference)
    monkeypatch.setattr(RegistryClient, "blob_chunks", lambda *_, **__: iter([b"something else"]))
    with pytest.raises(RegistryError, match="changes content"):
        read_artifact(found.reference)
    with pytest.raises(RegistryError, match="changes content"):
        bake(image.reference.split("@")[0] + ":2", [Layer({"/n": File(b"n")})], base=image.reference)


class _Modern(BaseHTTPRequestHandler):
    """Enough of a registry with the referrers endpoint."""

    protocol_version = "HTTP/1.1"

    def _serve(self):
        store = self.server.store
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.rsplit("/", 1)[-1].split("?")[0]
        kind = self.headers.get("Content-Type", "")
        if self.command == "POST":
            self._answer(202, {"Location": "/v2/m/blobs/uploads/1"})
        elif self.command == "PUT" and "/manifests/" in self.path:
            from gpuserve_images.oci.config import digest_of

            store[name] = store[digest_of(content)] = (kind, content)
            self._answer(201, {"OCI-Subject": "sha256:x"} if b'"subject"' in content else {})
        elif self.command == "PUT":
            self._answer(201)
        elif "/referrers/" in self.path:
            self._answer(200, {"Content-Type": INDEX}, self._referrers(name))
        elif name in store:
            self._answer(200, {"Content-Type": store[name][0]}, store[name][1])
        else:
            self._answer(404)

    def _referrers(self, digest):
        entries = []
        for name, (_, content) in self.server.store.items():
            document = json.loads(content)
            if document.get("subject", {}).get("digest") == digest and name.startswith("sha256:"):
                entries.append(
                    {
                        "digest": name,
                        "size": len(content),
                        "artifactType": document["artifactType"],
                        "annotations": document.get("annotations"),
                    }
                )
        return json.dumps({"manifests": entries}).encode()

    def _answer(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815 - names that http.server prescribes

    def log_message(self, *_):
        pass


def test_a_registry_with_the_endpoint_needs_no_tag():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Modern) as server:
        server.store = {}
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        image = bake(f"127.0.0.1:{server.server_address[1]}/m:1", [Layer({"/m": File(b"m")})])
        document = attach(image.reference, {"a": File(b"a")}, artifact_type=REPORT, annotations={"x": "y"})
        assert [(one.digest, one.annotations) for one in referrers(image.reference)] == [(document.digest, {"x": "y"})]
        assert not [name for name in server.store if name.startswith("sha256-")]
        server.shutdown()
