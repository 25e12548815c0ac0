import onnx
import pytest
from e2e_small_model import classifier

from gpuserve_images.compile.profiles import profiles
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.oci import memory
from gpuserve_images.onnx_model.signature import read_signature


@pytest.fixture(autouse=True)
def _no_memory_of_other_runs(tmp_path_factory, monkeypatch):
    """A test sends what it says it sends, whatever was baked on this machine before."""
    folder = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(memory, "_folder", lambda: folder)


@pytest.fixture
def source(tmp_path):
    """The file of a small classifier."""
    onnx.save(classifier(), tmp_path / "source.onnx")
    return tmp_path / "source.onnx"


@pytest.fixture
def shapes(source):
    """Profiles of that classifier, for batches of up to 16."""
    return profiles(read_signature(source), BatchSpec(max=16))
