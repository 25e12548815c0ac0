"""What Pulumi needs beside its engine, in a folder that is its search path."""

import sys
from pathlib import Path

import pytest

from gpuserve_embedded.tools import ToolError, prepare_pulumi

pytestmark = pytest.mark.usefixtures("own_tools")


def silent(_line: str) -> None:
    pass


@pytest.fixture
def built(tmp_path, monkeypatch):
    folder = tmp_path / "built"
    folder.mkdir()
    for name in ("pulumi", "pulumi-resource-kubernetes"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)

    def find(name, _progress):
        if not (folder / name).exists():
            raise ToolError(name, "absent", "none")
        return folder / name

    monkeypatch.setattr("gpuserve_embedded.tools.engine.ensure", find)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


def test_lays_out_engine_stand_ins_and_provider_as_often_as_it_is_asked(built, tmp_path):
    for _ in range(2):
        tools = prepare_pulumi(tmp_path / "bin", Path(sys.executable), silent)
    assert tools.stand_in
    names = ["pulumi", "pulumi-language-python", "pulumi-resource-pulumi-python"]
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == names
    # beside its own file, through no link: or the engine warns of each plugin at each command
    assert tools.pulumi.resolve().parent == tmp_path / "bin"
    plugin = tmp_path / "home" / "plugins" / "resource-kubernetes-v4.25.0" / "pulumi-resource-kubernetes"
    assert plugin.samefile(built / "pulumi-resource-kubernetes")


def test_builds_no_provider_where_pulumi_has_installed_one(built, tmp_path):
    (built / "pulumi-resource-kubernetes").unlink()
    plugin = tmp_path / "home" / "plugins" / "resource-kubernetes-v4.25.0" / "pulumi-resource-kubernetes"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("official")
    assert prepare_pulumi(tmp_path / "bin", Path(sys.executable), silent).kubernetes_provider == plugin
    assert plugin.read_text() == "official"


def test_prefers_the_official_language_host(built, tmp_path):
    prepare_pulumi(tmp_path / "bin", Path(sys.executable), silent)
    (built / "pulumi-language-python").write_text("official")
    tools = prepare_pulumi(tmp_path / "bin", Path(sys.executable), silent)
    assert not tools.stand_in
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["pulumi", "pulumi-language-python"]
    assert (tmp_path / "bin" / "pulumi-language-python").read_text() == "official"
    assert (tmp_path / "bin" / "pulumi").samefile(built / "pulumi")
