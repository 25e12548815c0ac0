"""`gpuserve compile -o` with what cannot be written: the option is named, before the model is built where that can be known."""

from pathlib import Path

import pytest

from gpuserve.cli import compiling

FIX = "Fix: name a folder that may be written to, or one that can be made"


@pytest.fixture
def compiled(cli, source, tmp_path, monkeypatch):
    """Compile the classifier into a folder, and return what is said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)

    def run(*arguments):
        result = cli("compile", source, *arguments)
        assert result.exit_code != 0
        return " ".join(result.stderr.split())

    return run


@pytest.mark.parametrize("arguments", [("-o", "file/below"), ("-o", "file/far/below"), ("-o", "file", "--force")])
def test_a_file_in_the_way_is_named_before_the_build(compiled, tmp_path, arguments):
    (tmp_path / "file").touch()
    said = compiled(*arguments)
    assert said.startswith(f"--output = '{arguments[1]}': cannot be written: ")
    assert said.endswith(f"file is no folder. {FIX}")
    assert not (tmp_path / "cache").exists()


def test_a_closed_folder_is_named_before_the_build(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.os, "access", lambda path, _: Path(path) != tmp_path)
    assert compiled("-o", "a/b") == f"--output = 'a/b': cannot be written: nothing may be written into {tmp_path}. {FIX}"
    assert not (tmp_path / "cache").exists()


def test_what_shows_only_on_writing_is_said_the_same_way(compiled, tmp_path):
    (tmp_path / "out" / "model.onnx" / "in the way").mkdir(parents=True)
    assert compiled("-o", "out", "--force") == f"--output = 'out': cannot be written: Is a directory. {FIX}"


def test_a_folder_that_nobody_may_look_into_is_named(compiled, monkeypatch):
    exists = Path.exists

    def closed(self: Path) -> bool:
        if self.name == "out":
            raise PermissionError(13, "Permission denied", str(self))
        return exists(self)

    monkeypatch.setattr(Path, "exists", closed)
    assert compiled("-o", "out") == f"--output = 'out': cannot be written: Permission denied. {FIX}"
