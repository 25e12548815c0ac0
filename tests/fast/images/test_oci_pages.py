"""Lists that a registry gives in pages."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEX
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.referrers import referrers
from gpuserve_images.pipeline import listing

DIGEST = f"sha256:{'0' * 64}"
TAGS = list("abcde")


class _Paged(BaseHTTPRequestHandler):
    """Gives two entries a page, and where the next one begins as a word that says nothing to anybody else."""

    def do_GET(self):
        self.server.asked.append(self.path)
        parts = urlsplit(self.path)
        start = int(parse_qs(parts.query).get("token", ["page0"])[0].removeprefix("page"))
        if parts.path.endswith("tags/list"):
            body, entries = {"name": "m", "tags": TAGS[start : start + 2]}, TAGS
        elif "/referrers/" in parts.path:
            entries = [{"digest": f"sha256:{n:064}", "size": n, "artifactType": f"type{n}"} for n in range(5)]
            body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries[start : start + 2]}
        else:
            self._answer(404, {}, {})
            return
        following = self.server.link.format(path=parts.path, start=start + 2)
        self._answer(200, {"Link": f'<{following}>; rel="next"'} if start + 2 < len(entries) else {}, body)

    def _answer(self, status, headers, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": INDEX, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def paged():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Paged) as server:
        server.asked, server.link = [], "{path}?token=page{start}"
        server.host = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def tags(server):
    return listing._tags(RegistryClient(server.host), Reference(server.host, "m"))


@pytest.mark.parametrize(
    "link", ["{path}?token=page{start}", "?token=page{start}", "https://inside.example{path}?token=page{start}"]
)
def test_all_pages_of_tags_are_read_and_from_this_registry(paged, link):
    paged.link = link
    assert tags(paged) == TAGS
    assert [urlsplit(path).query for path in paged.asked] == ["n=1000", "token=page2", "token=page4"]


def test_documents_of_all_pages_are_found(paged):
    found = referrers(f"{paged.host}/m@{DIGEST}")
    assert [one.artifact_type for one in found] == [f"type{n}" for n in range(5)]
    assert [one.digest for one in referrers(f"{paged.host}/m@{DIGEST}", artifact_type="type4")] == [f"sha256:{4:064}"]


def test_a_list_without_end_is_refused(paged):
    paged.link = "{path}?token=page2"
    with pytest.raises(RegistryError, match="goes round in a circle"):
        tags(paged)
