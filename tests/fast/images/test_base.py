import shutil
import sys

import pytest

from gpuserve_images.bases import debian, host
from gpuserve_images.bases import recipes as base
from gpuserve_images.bases.commands import run
from gpuserve_images.errors import BaseImageError


def recipe(folder):
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "start").write_text("#!/bin/sh\n")
    return folder


def test_the_tag_is_of_the_contents_not_of_place_or_time(tmp_path):
    one, two = recipe(tmp_path / "one"), recipe(tmp_path / "two")
    (two / "__pycache__").mkdir()
    (two / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert base.recipe_tag(one) == base.recipe_tag(two)
    assert len(base.recipe_tag(one)) == 40


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "start").write_text("#!/bin/sh\n\n"),
        lambda folder: (folder / "start").rename(folder / "begin"),
        lambda folder: (folder / "start").chmod(0o755),
        lambda folder: (folder / "more").write_text(""),
        lambda folder: shutil.copy(folder / "start", folder / "again"),
    ],
)
def test_any_change_to_a_recipe_changes_its_tag(tmp_path, change):
    folder = recipe(tmp_path / "one")
    before = base.recipe_tag(folder)
    change(folder)
    assert base.recipe_tag(folder) != before


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(BaseImageError, match="triton-cpu"):
        base.ensure_base("no-such-recipe", "localhost:1")


def test_a_missing_program_says_what_to_install(tmp_path, monkeypatch):
    # A folder on PATH that this user may not read answers like a file that nobody may run.
    (tmp_path / "no-such-program").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(BaseImageError, match="apt-get install no-such-program"):
        run(["no-such-program"], what="base image x", report=print)


def test_a_failed_program_shows_its_last_lines():
    seen = []
    code = "import sys; [print('line', i) for i in range(50)]; sys.exit('the reason')"
    with pytest.raises(BaseImageError, match="status 1") as caught:
        run([sys.executable, "-u", "-c", code], what="base image x", report=seen.append)
    assert len(caught.value.log) == 20
    assert "the reason" in str(caught.value)
    assert "line 0" in seen


def test_only_network_settings_of_apt_are_handed_to_a_build(monkeypatch):
    dump = (
        'Acquire::http::Proxy "http://proxy.example.com:3128";\n'
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'DPkg::Post-Invoke:: "/usr/bin/hook";\n'
        'APT::Install-Recommends "1";\n'
    )
    monkeypatch.setattr(host.subprocess, "run", lambda *_, **__: type("Result", (), {"stdout": dump}))
    assert host.apt_settings() == (
        'Acquire::http::Proxy "http://proxy.example.com:3128";\nAcquire::Check-Valid-Until "false";\n'
    )


def test_pip_settings_name_the_certificates_where_the_build_has_them(monkeypatch, tmp_path):
    authorities = tmp_path / "ca.crt"
    authorities.write_text("x")
    listing = (
        "global.index-url='https://index.example.com/simple'\nglobal.cert='/here/ca.crt'\n:env:.find-links='/opt/wheels'\n"
    )
    monkeypatch.setattr(host.subprocess, "run", lambda *_, **__: type("Result", (), {"stdout": listing}))
    monkeypatch.setenv("PIP_CERT", str(authorities))
    assert host.pip_settings() == (
        "[global]\nindex-url = https://index.example.com/simple\ncert = /etc/ssl/certs/ca-certificates.crt\n"
    )
    assert host.certificates() == authorities


def test_the_images_that_a_dockerfile_starts_from_are_found(tmp_path):
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "# FROM nothing\nFROM debian:bookworm-slim AS one\nRUN true\nfrom debian:bookworm-slim\nCOPY --from=one / /\n"
    )
    assert debian._from_lines(dockerfile) == {"debian:bookworm-slim"}


def test_every_recipe_starts_from_images_that_can_be_had():
    for dockerfile in base._recipe_folder("triton-cpu").parent.glob("*/Dockerfile"):
        assert debian._from_lines(dockerfile) <= debian._ROOTS.keys()


@pytest.mark.parametrize("suite", debian._ROOTS.values())
def test_the_keys_of_every_suite_are_here(suite):
    """The machine's own need not have them: Ubuntu 22.04 has none for Debian 12."""
    keys = {path.name for path in debian._KEYS.glob("*.asc")}
    assert {f"debian-archive-{suite}-{of}.asc" for of in ("automatic", "security-automatic", "stable")} <= keys
