"""An official release: taken only as its publisher lists it, and not waited for where the publisher cannot be reached."""

import hashlib
import http.server
import tarfile
import threading

import pytest

from gpuserve_embedded.tools import ToolError, release
from gpuserve_embedded.tools.cache import put, tools_folder
from gpuserve_embedded.tools.catalogue import Release

pytestmark = pytest.mark.usefixtures("own_tools")


def silent(_line: str) -> None:
    pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    program = tmp_path / "pulumi"
    program.write_text("the program")
    with tarfile.open(site / "pulumi-linux-x64.tar.gz", "w:gz") as archive:
        archive.add(program, "pulumi/pulumi")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(site))

        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(release, "_knock", lambda _address: None)
    monkeypatch.setattr(release.platform, "machine", lambda: "x86_64")
    address = f"http://127.0.0.1:{server.server_port}"
    yield site, Release(f"{address}/pulumi-{{system}}.tar.gz", f"{address}/sums.txt", "pulumi")
    server.shutdown()
    server.server_close()


def test_unpacks_what_the_publisher_lists(publisher):
    site, offered = publisher
    total = hashlib.sha256((site / "pulumi-linux-x64.tar.gz").read_bytes()).hexdigest()
    (site / "sums.txt").write_text(f"{'0' * 64}  other.tar.gz\n{total}  pulumi-linux-x64.tar.gz\n")
    folder = release.download(offered, silent)
    assert folder is not None
    assert (folder / "pulumi").read_text() == "the program"


def test_refuses_anything_else(publisher):
    site, offered = publisher
    (site / "sums.txt").write_text(f"{'0' * 64}  pulumi-linux-x64.tar.gz\n")
    with pytest.raises(ToolError, match="its publisher lists 000"):
        release.download(offered, silent)
    assert not list(tools_folder().glob("release-*"))


@pytest.fixture
def unreachable(monkeypatch):
    """A release whose publisher refuses connections, and the hosts that were asked."""
    asked: list[str] = []

    def refuse(address, timeout):
        asked.append(address[0])
        assert timeout <= 5
        raise ConnectionRefusedError

    monkeypatch.setattr(release.socket, "create_connection", refuse)
    monkeypatch.setattr(release.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(release.urllib.request, "getproxies", dict)
    monkeypatch.setattr(release, "_unreachable", set())
    return Release("https://releases.example.com/a-{system}.tar.gz", "https://releases.example.com/sums", "a"), asked


def test_asks_an_unreachable_publisher_once(unreachable):
    offered, asked = unreachable
    assert release.download(offered, silent) is None
    assert release.download(offered, silent) is None
    assert asked == ["releases.example.com"]


def test_an_unreachable_publisher_is_known_while_another_process_builds(unreachable):
    offered, _ = unreachable
    found = []

    def ask(_folder):
        asking = threading.Thread(target=lambda: found.append(release.download(offered, silent)), daemon=True)
        asking.start()
        asking.join(5)

    put("built", ask, silent)
    assert found == [None]
