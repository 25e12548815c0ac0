"""PyTorch files for TorchServe: programs, of the kind that their name says."""

import zipfile

import pytest

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import LayoutError, ServedModel, Wishes

SCRIPTED = ("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py")
EXPORTED = ("net/archive_format", "net/models/model.json")
SAVED = ("net/data.pkl", "net/data/0", "net/version")


def laid(folder, name, entries):
    path = folder / name
    if entries is None:
        path.write_bytes(b"\x80\x02\x8a\nl\xfc")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for entry in entries:
                archive.writestr(entry, b"")
    return lay_out("torchserve", ServedModel.of("m", "torch", path), Wishes(scratch=folder))[0]


@pytest.mark.parametrize(
    ("name", "entries"),
    [("m.pt", SCRIPTED), ("m.pt2", EXPORTED), ("m.pt2", ("net/serialized_exported_program.json",))],
)
def test_programs_are_taken(tmp_path, name, entries):
    assert "/models/model-store/m.mar" in laid(tmp_path, name, entries)


@pytest.mark.parametrize(
    ("name", "entries", "words"),
    [
        ("m.pt", SAVED, r"is not TorchScript: it holds weights .*torch.jit.trace"),
        ("m.pt", None, r"is not TorchScript"),
        ("m.pt2", SAVED, r"is not a program of torch.export: .*torch.export.save as model.pt2"),
        ("m.pt", EXPORTED, r"is a program of torch.export, and its name says that it is TorchScript. Fix: Call it model.pt2"),
        ("m.pt2", SCRIPTED, r"is TorchScript, and its name says that it is a program of torch.export. Fix: Call it model.pt\."),
    ],
)
def test_what_no_worker_can_load_is_refused(tmp_path, name, entries, words):
    with pytest.raises(LayoutError, match=rf"model m \({name}\): " + words):
        laid(tmp_path, name, entries)


@pytest.mark.parametrize("name", ["torchserve_handler.py", "MAR-INF/MANIFEST.json"])
def test_weights_do_not_take_the_place_of_what_is_in_an_archive(tmp_path, name):
    for each in ("net.onnx", name):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_bytes(b"")
    model = ServedModel.of("m", "onnx", tmp_path / "net.onnx", beside=[tmp_path / name])
    with pytest.raises(LayoutError, match=rf"model m \({name}\): keeps weights in a file .* Fix: Save them under another name"):
        lay_out("torchserve", model, Wishes(scratch=tmp_path))
