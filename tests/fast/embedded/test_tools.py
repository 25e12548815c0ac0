"""Programs: what a build is known by, that a build is done once and whole, and what a user is told when it fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpuserve_embedded.tools import ToolError, crds, ensure
from gpuserve_embedded.tools.build import _newest_wanted, build, build_key
from gpuserve_embedded.tools.cache import put, tools_folder
from gpuserve_embedded.tools.catalogue import DEFINITIONS, KUBE, PROGRAMS, GoModule, ModuleFile
from gpuserve_embedded.tools.find import is_stand_in

pytestmark = pytest.mark.usefixtures("own_tools")
MODULE = GoModule("greeter", {"greeter": "."}, {"main.version": "1"}, minutes=0.1, links=("hello",))


def silent(_line: str) -> None:
    pass


@pytest.fixture
def modules(tmp_path, monkeypatch):
    folder = tmp_path / "modules"
    (folder / "greeter").mkdir(parents=True)
    (folder / "greeter" / "go.mod").write_text("module greeter\n")
    monkeypatch.setattr("gpuserve_embedded.tools.build.modules_folder", lambda: folder)
    return folder


@pytest.fixture
def fake_go(tmp_path, monkeypatch):
    """A Go that notes each build, and does what `FAKE_GO` says in the place of compiling."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = env ]; then echo go1.99; exit; fi\n'
        f'echo "$PWD $*" >> {tmp_path}/builds\n'
        'while [ "$1" != -o ]; do shift; done\n'
        'out="$2"\n'
        'eval "${FAKE_GO:-:}"\n'
        'printf "#!/bin/sh\\necho built\\n" > "$out"; chmod +x "$out"\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    return tmp_path / "builds"


def key(folder: Path, module: GoModule = MODULE, compiler: str = "go1.26.0") -> str:
    return build_key(folder, module, compiler)


class TestKey:
    def test_is_the_same_wherever_the_module_lies(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "main.go").write_text("package main")
        assert key(tmp_path / "a") == key(tmp_path / "b")

    def test_follows_everything_that_a_build_depends_on(self, tmp_path):
        (tmp_path / "main.go").write_text("package main")
        first = key(tmp_path)
        changed = [
            key(tmp_path, compiler="go1.26.1"),
            key(tmp_path, GoModule("greeter", {"greeter": "."}, {"main.version": "2"}, minutes=0.1, links=("hello",))),
            key(tmp_path, GoModule("greeter", {"greeter": "./cmd"}, {"main.version": "1"}, minutes=0.1, links=("hello",))),
            key(
                tmp_path,
                GoModule(
                    "greeter", {"greeter": "."}, {"main.version": "1"}, 0.1, (ModuleFile("m", "p", "n", "2"),), ("hello",)
                ),
            ),
            key(
                tmp_path,
                GoModule("greeter", {"greeter": "."}, {"main.version": "1"}, minutes=0.1, links=("hello",), tags=("no_b",)),
            ),
        ]
        (tmp_path / "main.go").rename(tmp_path / "other.go")
        changed.append(key(tmp_path))
        (tmp_path / "other.go").write_text("package main // changed")
        changed.append(key(tmp_path))
        assert len({first, *changed}) == 1 + len(changed)

    def test_does_not_follow_an_estimate(self, tmp_path):
        slower = GoModule("greeter", {"greeter": "."}, {"main.version": "1"}, minutes=99, links=("hello",))
        assert key(tmp_path, slower) == key(tmp_path)


class TestCache:
    def test_makes_a_thing_once_for_all_who_want_it(self):
        made: list[Path] = []
        waiting: list[str] = []

        def make(folder: Path) -> None:
            made.append(folder)
            time.sleep(0.2)
            (folder / "program").write_text("x")

        found: list[Path] = []
        wanting = [threading.Thread(target=lambda: found.append(put("thing", make, waiting.append))) for _ in range(4)]
        for thread in wanting:
            thread.start()
        for thread in wanting:
            thread.join()
        assert len(made) == 1
        assert set(found) == {tools_folder() / "thing"}
        assert (found[0] / "program").read_text() == "x"
        assert "another process" in waiting[0]

    def test_a_failure_leaves_nothing(self):
        def fail(folder: Path) -> None:
            (folder / "half").write_text("x")
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            put("thing", fail, silent)
        assert [path.name for path in tools_folder().iterdir()] == [".lock"]

    def test_a_killed_build_leaves_nothing_under_its_name_and_the_next_one_clears_up(self):
        code = (
            "import time; from gpuserve_embedded.tools.cache import put\n"
            "def make(folder):\n"
            "    (folder / 'half').write_text('x'); print('at work', flush=True); time.sleep(60)\n"
            "put('thing', make, print)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ.copy())
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (tools_folder() / "thing").exists()
        put("thing", lambda folder: (folder / "whole").touch(), silent)
        assert sorted(path.name for path in tools_folder().iterdir()) == [".lock", "thing"]
        assert [path.name for path in (tools_folder() / "thing").iterdir()] == ["whole"]


class TestBuild:
    def test_builds_once_and_gives_every_name(self, modules, fake_go):
        folder = build(MODULE, silent)
        assert build(MODULE, silent) == folder
        assert folder.name == f"greeter-{key(modules / 'greeter', compiler='go1.99')}"
        assert subprocess.check_output([folder / "hello"], text=True) == "built\n"
        assert sorted(path.name for path in folder.iterdir()) == ["greeter", "hello"]
        assert len(fake_go.read_text().splitlines()) == 1

    def test_verifies_against_the_committed_sums_and_links_statically(self, modules, fake_go, monkeypatch):
        monkeypatch.setenv("FAKE_GO", 'echo "$CGO_ENABLED|$GOFLAGS" > "$(dirname "$out")/seen"')
        monkeypatch.setenv("GOFLAGS", "-mod=mod")
        folder = build(MODULE, silent)
        assert (folder / "seen").read_text() == "0|\n"
        assert "-mod=readonly -trimpath -buildvcs=false -ldflags -s -w -X main.version=1" in fake_go.read_text()

    def test_keeps_the_compilers_temporary_files_in_the_unfinished_folder(self, modules, fake_go, monkeypatch, tmp_path):
        monkeypatch.setenv(
            "FAKE_GO", f'touch "$GOTMPDIR/object"; dirname "$GOTMPDIR" > {tmp_path}/place; dirname "$out" >> {tmp_path}/place'
        )
        folder = build(MODULE, silent)
        compilers, programs = (tmp_path / "place").read_text().splitlines()
        assert compilers == programs
        assert sorted(path.name for path in folder.iterdir()) == ["greeter", "hello"]

    def test_a_failure_shows_the_end_of_the_log_and_what_to_do(self, modules, fake_go, monkeypatch):
        monkeypatch.setenv("FAKE_GO", "for i in $(seq 50); do echo line $i; done; exit 3")
        with pytest.raises(ToolError) as raised:
            build(MODULE, silent)
        error = raised.value
        assert error.tail == tuple(f"line {number}" for number in range(31, 51))
        assert error.log is not None
        assert "line 1\n" in error.log.read_text()
        assert "greeter: the build from its Go module ended with status 3" in str(error)
        assert "    line 50\n  fix: read the lines above" in str(error)
        assert not list(tools_folder().glob("greeter-*"))

    def test_says_what_to_install_where_there_is_no_go(self, modules, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ToolError, match="install Go, and"):
            build(MODULE, silent)
        for name, version in (("old", "1.9.3"), ("new", "1.26.6")):
            (modules / name).mkdir()
            (modules / name / "go.mod").write_text(f"module {name}\n\ngo {version}\n")
        with pytest.raises(ToolError, match=r"install Go 1\.26\.6 or newer"):
            build(MODULE, silent)

    def test_the_readme_names_the_go_that_the_modules_ask_for(self):
        readme = (Path(__file__).parents[3] / "README.md").read_text()
        assert f"Go{_newest_wanted().removesuffix(' or newer')}," in readme


class TestFinding:
    def test_names_what_is_known(self):
        with pytest.raises(ToolError, match=r"no such program is known(.|\n)*kube, "):
            ensure("kubeadm", silent)
        with pytest.raises(ToolError, match="name one of: gateway-api, "):
            crds("istio")

    def test_every_module_and_definition_has_its_folder_and_its_sums(self):
        modules = Path(__file__).parents[3] / "embedded" / "modules"
        for program in PROGRAMS.values():
            if program.module is not None:
                assert (modules / program.module.name / "go.mod").is_file()
        required = (modules / "crds" / "go.mod").read_text()
        sums = (modules / "crds" / "go.sum").read_text()
        for definitions in DEFINITIONS.values():
            assert f"\t{definitions.module} v" in required
            assert f"{definitions.module} v" in sums

    def test_the_control_plane_is_one_program(self):
        assert PROGRAMS["kubelet"].module is PROGRAMS["kubectl"].module is KUBE

    @pytest.mark.parametrize(("version", "used"), [("3.259.0", True), ("3.300.1", True), ("3.100.0", False), ("4.0.0", False)])
    def test_uses_the_users_own_pulumi_if_it_is_new_enough(self, tmp_path, monkeypatch, version, used):
        own = tmp_path / "own"
        own.mkdir()
        (own / "pulumi").write_text(f"#!/bin/sh\necho v{version}\n")
        (own / "pulumi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{own}:/usr/bin:/bin")
        monkeypatch.setattr("gpuserve_embedded.tools.find.download", lambda _release, _progress: None)
        monkeypatch.setattr("gpuserve_embedded.tools.find.build", lambda _module, _progress: tmp_path / "built")
        lines: list[str] = []
        assert ensure("pulumi", lines.append) == (own if used else tmp_path / "built") / "pulumi"
        assert any("is not used" in line for line in lines) is not used

    def test_a_stand_in_is_not_taken_for_the_official_program(self, tmp_path, monkeypatch):
        from gpuserve_embedded.language_host import remove_wrappers, write_wrappers

        folder = tmp_path / "stand ins"
        write_wrappers(folder, Path(sys.executable))
        assert sorted(path.name for path in folder.iterdir()) == ["pulumi-language-python", "pulumi-resource-pulumi-python"]
        assert all(os.access(path, os.X_OK) and is_stand_in(path) for path in folder.iterdir())
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr("gpuserve_embedded.tools.find.download", lambda _release, _progress: None)
        with pytest.raises(ToolError, match="install the official Pulumi CLI"):
            ensure("pulumi-language-python", silent)
        remove_wrappers(folder)
        assert not list(folder.iterdir())
