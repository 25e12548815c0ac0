"""Credentials: Docker's and Podman's files, helper programs, and that none of it is ever shown."""

import base64
import hashlib
import json
import logging
from io import BytesIO
from pathlib import Path

import pytest
import requests
from e2e_registry import CREDENTIALS, PASSWORD_FILE, RegistryServer
from faulty_http import Fault, FaultyServer

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.oci.client import RegistryClient, Request
from gpuserve_images.oci.credentials import Credentials, credentials_for
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.uploads import Content, Upload

USER, PASSWORD = CREDENTIALS
LAYER = Layer({"/m": File(b"m" * 1000)})


def encoded(user=USER, password=PASSWORD):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RegistryServer(tmp_path_factory.mktemp("registry"), password=PASSWORD_FILE) as running:
        yield running


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty home; what is written to `docker/config.json` counts."""
    for name in ("docker", "programs", "runtime"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:/bin")
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


def write(place, config, name="docker/config.json"):
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))


def helper(place, script, name="fake"):
    program = place / "programs" / f"docker-credential-{name}"
    program.write_text(f'#!/bin/sh\nread host\necho "$1 $host" >> {place}/asked\n{script}\n')
    program.chmod(0o755)


def answer(user=USER, secret=PASSWORD):
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': user, 'Secret': secret})}'"


@pytest.mark.parametrize("kind", ["credHelpers", "credsStore"])
def test_a_helper_program_opens_a_real_registry(server, place, kind, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    write(place, {"credHelpers": {server.host: "fake"}} if kind == "credHelpers" else {"credsStore": "fake"})
    helper(place, answer())
    result = bake(f"{server.host}/helped/{kind.lower()}:1", [LAYER])
    assert result.uploaded_bytes > 1000
    assert (place / "asked").read_text() == f"get {server.host}\n", "asked once, whatever number of uploads"
    shown = repr(result) + caplog.text + "".join(capfd.readouterr())
    assert PASSWORD not in shown
    assert encoded() not in shown


def test_a_wrong_password_from_a_helper_is_an_error_that_does_not_show_it(server, place):
    write(place, {"credsStore": "fake"})
    helper(place, answer(USER, "wrong-one"))
    with pytest.raises(RegistryError, match="wants credentials") as caught:
        bake(f"{server.host}/m:1", [LAYER])
    assert "wrong-one" not in f"{caught.value} {caught.value.__cause__}"


def test_podmans_files_are_read_too(server, place, monkeypatch):
    entry = {"auths": {server.host: {"auth": encoded()}}}
    write(place, entry, "runtime/containers/auth.json")
    with pytest.raises(RegistryError, match="wants credentials"):
        bake(f"{server.host}/podman:1", [LAYER])
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "runtime"))
    assert bake(f"{server.host}/podman:1", [LAYER]).uploaded_bytes > 1000


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo secret-thing; exit 3", r"failed \(status 3\)"),
        ("echo secret-thing", "an answer without Username and Secret"),
        ("echo '[]'", "an answer without Username and Secret"),
        (r"printf '\377secret-thing'", "an answer without Username and Secret"),
        (r"printf '\377secret-thing' >&2; exit 3", r"failed \(status 3\)"),
        ("""echo '{"Username": 5, "Secret": "secret-thing"}'""", "an answer without Username and Secret"),
        ("""echo '{"Username": "secret-thing", "Secret": null}'""", "an answer without Username and Secret"),
    ],
)
def test_a_helper_that_fails_is_named_and_not_quoted(server, place, script, reason):
    write(place, {"credHelpers": {server.host: "fake"}})
    helper(place, script)
    with pytest.raises(RegistryError, match=reason) as caught:
        bake(f"{server.host}/m:1", [LAYER])
    assert "docker-credential-fake" in str(caught.value)
    assert "secret-thing" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


def test_a_helper_that_is_missing_is_named(server, place):
    write(place, {"credHelpers": {server.host: "nowhere"}})
    with pytest.raises(RegistryError, match="docker-credential-nowhere is not on PATH"):
        bake(f"{server.host}/m:1", [LAYER])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": {"HOST": {"auth": "!!"}}}', '{"auths": {"HOST": {"auth": "bm9jb2xvbg=="}}}']
)
def test_a_broken_file_is_named_and_not_quoted(server, place, text):
    (place / "docker" / "config.json").write_text(text.replace("HOST", server.host))
    with pytest.raises(RegistryError, match=r"the Docker configuration .*config.json") as caught:
        bake(f"{server.host}/m:1", [LAYER])
    assert "bm9jb2xvbg" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"auths": ["secret-thing"]}', "auths"),
        ('{"auths": {"r.example": "secret-thing"}}', r"auths\[r.example\]"),
        ('{"auths": {"r.example": {"auth": 5}}}', r"auths\[r.example\].auth"),
        ('{"auths": {"r.example": {"identitytoken": ["secret-thing"]}}}', r"auths\[r.example\].identitytoken"),
        ('{"credHelpers": ["r.example"]}', "credHelpers"),
        ('{"credHelpers": {"r.example": 5}}', r"credHelpers\[r.example\]"),
        ('{"credsStore": {"secret-thing": 1}}', "credsStore"),
    ],
)
def test_a_field_of_another_type_is_named_and_not_quoted(place, text, field):
    (place / "docker" / "config.json").write_text(text)
    with pytest.raises(RegistryError, match=rf"config.json has a `{field}` of another type") as caught:
        credentials_for("r.example", "a")
    assert "secret-thing" not in str(caught.value)


def test_a_helpers_answer_is_utf_8_in_every_locale(place, monkeypatch):
    monkeypatch.setattr("locale.getencoding", lambda: "latin-1")
    monkeypatch.setattr("io.text_encoding", lambda *_: "latin-1")
    write(place, {"credsStore": "fake"})
    helper(place, r"""printf '{"Username": "m\303\274", "Secret": "p\303\244ss"}'""")
    assert credentials_for("r.example", "a") == Credentials("mü", "päss")


def test_a_home_that_only_another_user_may_look_into_is_none(place, monkeypatch):
    """As in a container that runs as a plain user with HOME=/root; the superuser of this test may look into everything."""
    monkeypatch.delenv("DOCKER_CONFIG")
    usual = Path.is_file

    def closed(path):
        if ".docker" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, "is_file", closed)
    assert credentials_for("r.example", "a") is None


def test_podmans_entry_for_one_repository_opens_that_one(server, place):
    write(place, {"auths": {f"{server.host}/team": {"auth": encoded()}, f"{server.host}/other": {"auth": encoded("nobody")}}})
    assert bake(f"{server.host}/team/m:1", [LAYER]).uploaded_bytes > 1000
    for name in ("other/m", "third/m"):
        with pytest.raises(RegistryError, match="wants credentials"):
            bake(f"{server.host}/{name}:1", [LAYER])


class TestAnotherHost:
    """What an upload's `Location` or a redirect names is not the registry, and gets none of its credentials."""

    CHALLENGES = ('Basic realm="theirs"', 'Bearer realm="{}/token",service="theirs"')
    CONTENT = b"content"
    DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

    @pytest.fixture
    def other(self):
        with FaultyServer() as running:
            yield running

    @pytest.fixture
    def ours(self, web, place):
        """A registry that we are logged in to, and that wants to know it."""
        host = web.url.removeprefix("http://")
        write(place, {"auths": {host: {"auth": encoded()}}})
        return Reference(host, "m")

    def begin(self, web, location):
        challenge = {"WWW-Authenticate": 'Basic realm="ours"'}
        web.put("v2/m/blobs/uploads/", b"", Fault(401, challenge), Fault(202, {"Location": location}))

    def upload(self, ours):
        Upload(RegistryClient(ours.host), ours, self.DIGEST, Content(len(self.CONTENT), lambda: iter([self.CONTENT]))).run()

    def test_takes_an_upload_without_them(self, web, other, ours):
        self.begin(web, other.put("signed", b"", Fault(201)))
        self.upload(ours)
        assert [one.authorization for one in web.asked] == [None, Credentials(USER, PASSWORD).basic()]
        assert [(one.method, one.path, one.authorization) for one in other.asked] == [("PUT", "/signed", None)]

    @pytest.mark.parametrize("challenge", CHALLENGES)
    def test_asks_for_them_in_vain(self, web, other, ours, challenge):
        self.begin(web, other.put("up", b"", *[Fault(401, {"WWW-Authenticate": challenge.format(other.url)})] * 9))
        with pytest.raises(RegistryError, match="wants credentials"):
            self.upload(ours)
        assert [(one.path, one.authorization) for one in other.asked] == [("/up", None)]

    @pytest.mark.parametrize("challenge", CHALLENGES)
    def test_asks_for_them_in_vain_after_a_redirect(self, web, other, ours, challenge):
        url = other.put("blob", b"", *[Fault(401, {"WWW-Authenticate": challenge.format(other.url)})] * 9)
        web.put(f"v2/m/blobs/{self.DIGEST}", b"", *[Fault(307, {"Location": url})] * 9)
        with pytest.raises(RegistryError, match="wants credentials"):
            RegistryClient(ours.host).blob(ours, self.DIGEST)
        assert {(one.path, one.authorization) for one in other.asked} == {("/blob", None)}

    @pytest.mark.parametrize("url", ["https://r.example:443/x", "https://R.example/x"])
    def test_is_no_other_name_of_the_same_one(self, place, monkeypatch, url):
        assert self.sent(monkeypatch, place, url) == Credentials(USER, PASSWORD).basic()

    @pytest.mark.parametrize(
        "url",
        [
            "http://r.example/x",
            "https://r.example:444/x",
            "https://r.example@evil.example/x",
            "https://evil.example\\@r.example/x",
            "https://r.example.evil.example/x",
        ],
    )
    def test_is_told_by_scheme_host_and_port(self, place, monkeypatch, url):
        assert self.sent(monkeypatch, place, url) is None

    def sent(self, monkeypatch, place, url):
        """Return what a registry's client that is logged in already says to an address."""
        write(place, {"auths": {"r.example": {"auth": encoded()}}})
        said = []

        def send(_session, request, **_):
            said.append(request.headers.get("Authorization"))
            answer = requests.Response()
            answer.url, answer.request, answer.raw = request.url, request, BytesIO()
            answer.status_code = 200 if said[-1] or len(said) > 1 else 401
            answer.headers["WWW-Authenticate"] = 'Basic realm="ours"'
            return answer

        monkeypatch.setattr(requests.Session, "send", send)
        client, reference = RegistryClient("r.example"), Reference("r.example", "m")
        client.send(reference, Request("GET", client.url(reference, "blobs/x")))
        client.send(reference, Request("GET", url))
        return said[-1]


class TestLookup:
    def test_a_store_that_knows_nothing_gives_way_to_the_file(self, place):
        write(place, {"credsStore": "fake", "auths": {"registry.example": {"auth": encoded()}}})
        helper(place, "echo 'credentials not found in native keychain'; exit 1")
        assert credentials_for("registry.example") == Credentials(USER, PASSWORD)

    @pytest.mark.parametrize("key", ["registry.example", "https://registry.example", "https://registry.example/v1/"])
    def test_old_forms_of_a_name(self, place, key):
        write(place, {"auths": {key: {"auth": encoded()}}})
        assert credentials_for("registry.example") == Credentials(USER, PASSWORD)
        assert credentials_for("other.example") is None

    def test_docker_hub_has_a_name_of_its_own(self, place):
        write(place, {"auths": {"https://index.docker.io/v1/": {"auth": encoded()}}})
        assert credentials_for("registry-1.docker.io") == Credentials(USER, PASSWORD)

    def test_docker_hub_as_podman_calls_it(self, place):
        write(place, {"auths": {"docker.io": {"auth": encoded()}, "docker.io/team": {"auth": encoded("theirs")}}})
        assert credentials_for("registry-1.docker.io", "library/debian") == Credentials(USER, PASSWORD)
        assert credentials_for("registry-1.docker.io", "team/model") == Credentials("theirs", PASSWORD)

    def test_an_entry_for_a_part_of_a_registry_is_for_that_part(self, place):
        entries = {"": "all", "/team": "team", "/team/models": "models", "/other": "other"}
        write(place, {"auths": {f"registry.example{path}": {"auth": encoded(user)} for path, user in entries.items()}})
        found = {
            name: credentials_for("registry.example", name).user for name in ("team/models/a", "team/a", "team2/a", "a", "")
        }
        assert found == {"team/models/a": "models", "team/a": "team", "team2/a": "all", "a": "all", "": "all"}

    @pytest.mark.parametrize("key", ["registry.example/other-team", "https://registry.example/v1/access-token"])
    def test_an_entry_for_a_part_is_not_the_whole_registrys(self, place, key):
        write(place, {"auths": {key: {"auth": encoded()}}})
        assert credentials_for("registry.example", "team/model") is None
        assert credentials_for("registry.example") is None

    def test_an_empty_entry_is_none(self, place):
        write(place, {"auths": {"https://index.docker.io/v1/": {}, "docker.io": {"auth": encoded()}}})
        assert credentials_for("registry-1.docker.io") == Credentials(USER, PASSWORD)

    def test_tokens_instead_of_passwords(self, place):
        write(place, {"auths": {"a.example": {"identitytoken": "t1"}}, "credHelpers": {"b.example": "fake"}})
        helper(place, answer("<token>", "t2"))
        assert credentials_for("a.example") == Credentials("", "", "t1")
        assert credentials_for("b.example") == Credentials("", "", "t2")

    def test_secrets_are_not_in_the_text_form(self):
        assert "hidden" not in repr(Credentials("me", "hidden", "hidden"))
