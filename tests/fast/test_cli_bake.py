"""`gpuserve bake` with files and folders: what goes where, and what is refused."""

import io
import json
import os
import tarfile

import pytest
import requests
from e2e_signing import key_pair

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import resolve

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def bake(cli, registry, tmp_path, monkeypatch):
    """Bake in an empty folder, and return the result of a bake that works, or the message of one that does not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments, fails=False):
        if "--image" not in arguments:
            arguments = (*arguments, "--image", f"{registry.host}/files:1")
        result = cli("bake", *arguments, "--json")
        assert (result.exit_code != 0) is fails, result.output
        assert "was not made for" not in result.output
        return " ".join(result.stderr.split()) if fails else json.loads(result.stdout)

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("a")
    return tmp_path / "folder"


def modes(reference):
    """Return the permission bits of each file in an image."""
    host, rest = reference.split("/", 1)
    repository, digest = rest.split("@")

    def get(path):
        return requests.get(f"http://{host}/v2/{repository}/{path}", headers={"Accept": MANIFEST}, timeout=10)

    layers = [get(f"blobs/{layer['digest']}").content for layer in get(f"manifests/{digest}").json()["layers"]]
    return {entry.name: entry.mode for layer in layers for entry in tarfile.open(fileobj=io.BytesIO(layer))}


def test_programs_stay_programs_and_everything_is_readable(bake, folder):
    for name, bits in (("run", 0o700), ("data", 0o600), ("others", 0o655)):
        (folder / name).write_text(name)
        (folder / name).chmod(bits)
    assert modes(bake("folder:/f", "folder/run:/run")["reference"]) == {
        "f/a": 0o644,
        "f/data": 0o644,
        "f/others": 0o644,
        "f/run": 0o755,
        "run": 0o755,
    }


def test_a_link_to_a_file_counts_as_the_file(bake, folder):
    (folder / "link").symlink_to("a")
    assert bake("folder:/f")["files"] == {"/f/a": 1, "/f/link": 1}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: (folder / "x").symlink_to(folder.parent), "is a link to a folder"),
        (lambda folder: (folder / "x").symlink_to("."), "is a link to a folder"),
        (lambda folder: (folder / "x").symlink_to("nowhere"), "is a link to a file that does not exist"),
        (lambda folder: os.mkfifo(folder / "x"), "is no plain file"),
        (lambda folder: (folder / "a").unlink(), "holds no files"),
        (lambda folder: (folder / "a").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")), "not UTF-8: '/f/caf\\udce9'"),
    ],
)
def test_what_cannot_be_in_an_image_is_refused_and_not_dropped(bake, folder, make, words):
    make(folder)
    assert words in bake("folder:/f", fails=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("folder/a:/x", "folder/b:/x"), "'folder/b:/x': puts a second file at /x, where 'folder/a:/x' puts one"),
        (("folder:/x", "folder/b:/x/a"), "puts a second file at /x/a, where 'folder:/x' puts one"),
        (
            ("folder/b:/x/y/z", "folder/a:/x"),
            "'folder/b:/x/y/z': puts a file at /x/y/z, below /x, where 'folder/a:/x' puts a file",
        ),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(bake, folder, arguments, words):
    (folder / "b").write_text("b")
    assert words in bake(*arguments, fails=True)


def test_the_name_on_this_machine_need_not_be_text(bake, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    assert bake(os.fsdecode(b"caf\xe9:/x"))["files"] == {"/x": 1}


def test_a_place_that_is_not_text_is_a_sentence(bake, folder):
    assert "not UTF-8" in bake(os.fsdecode(b"folder/a:/caf\xe9"), fails=True)


def test_a_digest_is_no_name_to_give(bake, folder, registry):
    name = f"{registry.host}/given:1@sha256:{'0' * 64}"
    before = len(registry.requests())
    said = bake("folder:/f", "--image", name, fails=True)
    assert said.startswith(
        f"--image = '{name}': has a digest, which follows from the files. Fix: write {registry.host}/given:1"
    )
    assert len(registry.requests()) == before


def test_a_tag_that_is_new_or_moved_is_something_done(bake, folder, registry):
    name = f"{registry.host}/again:1"
    assert bake("folder:/f", "--image", name)["pushed"]
    assert not bake("folder:/f", "--image", name)["pushed"]
    assert bake("folder:/f", "--image", name, "--tag", "t2")["pushed"]
    assert not bake("folder:/f", "--image", name, "--tag", "t2")["pushed"]
    (folder / "a").write_text("other")
    assert bake("folder:/f", "--image", name)["pushed"]
    (folder / "a").write_text("a")
    back = bake("folder:/f", "--image", name)
    assert (back["uploaded_bytes"], back["pushed"]) == (0, True)


class TestSigned:
    @pytest.fixture
    def key(self, tmp_path):
        (tmp_path / "mine.key").write_text(key_pair()[0])
        return "mine.key"

    def test_the_tag_comes_after_the_signature(self, bake, folder, registry, key):
        before = len(registry.requests())
        made = bake("folder:/f", "--image", f"{registry.host}/signed/it:prod", "--sign", key, "--tag", "too")
        puts = [path.rpartition("/")[2] for method, path, _ in registry.requests()[before:] if method == "PUT"]
        named = [name for name in puts if "?" not in name]
        assert named == [made["digest"], f"{made['digest'].replace(':', '-')}.sig", "prod", "too"]
        assert (made["pushed"], made["tag"]) == (True, f"{registry.host}/signed/it:prod")
        assert not bake("folder:/f", "--image", made["tag"], "--sign", key)["pushed"]
        (folder / "a").write_text("other")
        bake("folder:/f", "--image", made["tag"])
        (folder / "a").write_text("a")
        again = bake("folder:/f", "--image", made["tag"], "--sign", key)
        assert (again["uploaded_bytes"], again["pushed"]) == (0, True), "the tag was another's meanwhile"
        assert resolve(made["tag"]).digest == made["digest"]

    def test_without_its_signature_there_is_no_tag(self, bake, folder, registry, key, monkeypatch):
        def refuse(*_):
            raise ImageError("signature", "the registry refused it", "x")

        monkeypatch.setattr("gpuserve_images.oci.signing.sign", refuse)
        tag = f"{registry.host}/signed/half:prod"
        assert "the registry refused it" in bake("folder:/f", "--image", tag, "--sign", key, fails=True)
        assert resolve(tag) is None
