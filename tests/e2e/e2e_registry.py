"""A real registry (Debian's docker-registry) on a free port of this machine, and what was asked of it."""

import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

import pytest

BINARY = shutil.which("docker-registry")
# htpasswd line of user "someone", password "secret" (bcrypt, the only kind that the registry reads).
CREDENTIALS = ("someone", "secret")
PASSWORD_FILE = "someone:$2b$05$7EqJtq98hPqEX7fNZaFWoO3jZyWKAXVHMmb11HYfv5wuwoYPEmmyK\n"  # noqa: S105 - of a registry that lives for one test
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>/v2/\S*) HTTP/1\.1" (?P<status>\d+)')


class RegistryServer:
    """Runs while it is entered."""

    def __init__(self, folder: Path, *, password: str | None = None, listen: str = "127.0.0.1") -> None:
        """Keep everything in `folder`; with a password file's text, refuse who is not in it.

        Pods reach one that listens on all addresses (`0.0.0.0`).
        """
        self._folder = folder
        self._log = folder / "log"
        self._password = password
        self._listen = listen
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"localhost:{free.getsockname()[1]}"

    def __enter__(self) -> Self:
        if BINARY is None:  # `make test` installs it; `make test-fast` needs no root
            pytest.skip("needs a registry: apt-get install docker-registry")
        config = self._folder / "config.yml"
        port = self.host.split(":")[1]
        text = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self._folder}/data}}}}\nhttp: {{addr: '{self._listen}:{port}'}}\n"
        if self._password:
            (self._folder / "htpasswd").write_text(self._password)
            text += f"auth: {{htpasswd: {{realm: test, path: {self._folder}/htpasswd}}}}\n"
        config.write_text(text)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([BINARY, "serve", str(config)], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1)
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.02)
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def requests(self) -> list[tuple[str, str, int]]:
        """Return (method, path, status) of all requests so far, the start's own left out."""
        found = _ACCESS.finditer(self._log.read_text(errors="replace"))
        return [(hit["method"], hit["path"], int(hit["status"])) for hit in found if hit["path"] != "/v2/"]
