"""`python -m gpuserve_images build --report`: where the report cannot be written, nothing is built."""

import pytest
from e2e_small_model import write_model_folder

from gpuserve_images import __main__ as program
from gpuserve_images.__main__ import FAILED, WRONG, main


@pytest.fixture
def build(tmp_path, monkeypatch):
    model = write_model_folder(tmp_path / "model")
    built = []
    whole = program._build
    monkeypatch.setattr(program, "_build", lambda given: built.append(given) or whole(given))

    def run(report):
        arguments = [
            "build",
            "--spec",
            str(model),
            "--build",
            "fp64",
            "--registry",
            "localhost:1/models",
            "--report",
            str(report),
        ]
        return main(arguments), len(built)

    return run


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("missing/report.json", "cannot be written (No such file or directory)"),
        ("model/small.yaml/report.json", "cannot be written (Not a directory)"),
        ("model", "is a folder"),
    ],
)
def test_a_report_that_could_not_be_written_is_said_before_the_build(build, tmp_path, capsys, place, reason):
    assert build(tmp_path / place) == (WRONG, 0)
    assert capsys.readouterr().err.startswith(f"--report = '{tmp_path / place}': {reason}. Fix: name a file")


def test_one_that_can_be_holds_the_error_and_nothing_else_is_left(build, tmp_path):
    (tmp_path / "out").mkdir()
    assert build(tmp_path / "out/report.json") == (FAILED, 1)
    assert '"kind": "SpecError"' in (tmp_path / "out/report.json").read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
