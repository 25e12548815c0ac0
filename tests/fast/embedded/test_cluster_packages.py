"""Which packages are missing, what of the tests' is not to be had, and what a killed installation leaves."""

import subprocess

import pytest

from gpuserve_embedded.cluster import packages


@pytest.fixture
def apt(monkeypatch, tmp_path):
    """A distribution that has some packages; returns them, and what was asked of it."""
    offered, asked = {"openjdk-17-jre-headless"}, []
    installed = set()

    def run(verb, *wanted):
        asked.append((verb, *wanted))
        if verb == "install" and set(wanted) <= offered:
            installed.update(wanted)
            return subprocess.CompletedProcess([verb], 0, "", "")
        return subprocess.CompletedProcess([verb], 0 if verb == "update" else 100, "unable to locate package", "")

    monkeypatch.setattr(packages, "_apt", run)
    monkeypatch.setattr(packages, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "_systemctl", lambda _verb, _service: False)
    monkeypatch.setattr(packages, "missing", lambda of=packages.PACKAGES: [name for name in of if name not in installed])
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}")
    return offered, asked


def test_what_the_tests_of_this_project_ask_for_is_installed():
    """Each is named in the reason with which a test is skipped, or run by one."""
    assert {"libpython3.11", "openjdk-17-jre-headless"} == set(packages.FOR_TESTS)
    assert {"curl", "docker-registry", "buildah", "mmdebstrap"} <= set(packages.PACKAGES)


def test_programs_files_and_libraries_are_looked_for(tmp_path):
    (tmp_path / "there").touch()
    needed = {
        "a": "sh",
        "b": "no-such-program",
        "c": tmp_path / "there",
        "d": tmp_path / "not",
        "e": "libc.so.6",
        "f": "libno.so.1",
    }
    assert packages.missing(needed) == ["b", "d", "f"]


def test_one_package_that_the_distribution_lacks_keeps_no_other_away(apt):
    _, asked = apt
    assert packages.install_for_tests(print) == ["libpython3.11"]
    assert ("install", "openjdk-17-jre-headless") in asked


def test_nothing_is_asked_where_all_is_there(apt):
    offered, asked = apt
    offered.add("libpython3.11")
    assert packages.install_for_tests(print) == []
    asked.clear()
    assert packages.install_for_tests(print) == []
    assert asked == []


def test_a_refusal_that_a_killed_installation_left_is_known_as_ours(apt, tmp_path):
    assert packages.refusal() == []
    policy = tmp_path / "policy-rc.d"
    with packages._no_service_starts():
        assert packages.refusal() == [policy]
    assert packages.refusal() == []
    policy.write_text("#!/bin/sh\nexit 0\n")
    assert packages.refusal() == []
