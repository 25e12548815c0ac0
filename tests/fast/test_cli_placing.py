"""Where the files of `gpuserve bake PATH:PLACE` go."""

from pathlib import Path

import pytest

from gpuserve.cli.placing import placed
from gpuserve.kubernetes.errors import SpecError


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run 12:30").mkdir()
    for name in ("plain.onnx", "model:1.onnx", "run 12:30/a:b"):
        Path(name).write_text(name)


@pytest.mark.parametrize(
    ("argument", "places"),
    [
        ("plain.onnx:/m/x.onnx", ["/m/x.onnx"]),
        ("model:1.onnx:/m/x.onnx", ["/m/x.onnx"]),
        ("model:1.onnx:/m/", ["/m/model:1.onnx"]),
        ("run 12:30:/m", ["/m/a:b"]),
        ("plain.onnx:/m/12:30", ["/m/12:30"]),
    ],
)
def test_names_and_places_may_have_colons(argument: str, places: list[str]) -> None:
    assert list(placed([argument])) == places


@pytest.mark.parametrize(
    ("argument", "fix"),
    [
        ("model:1.onnx", "write model:1.onnx:/models/model:1.onnx"),
        ("plain.onnx:models/x", "write plain.onnx:/models/plain.onnx"),
        ("plain.onnx", "write plain.onnx:/models/plain.onnx"),
    ],
)
def test_without_a_place_the_file_that_was_named_is_in_the_fix(argument: str, fix: str) -> None:
    with pytest.raises(SpecError, match="does not say where in the image it goes") as caught:
        placed([argument])
    assert str(caught.value).endswith(fix)
