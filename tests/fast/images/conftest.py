import pytest
from e2e_registry import BINARY, RegistryServer

from gpuserve_images.oci import memory


@pytest.fixture(autouse=True)
def _no_memory_of_other_runs(tmp_path_factory, monkeypatch):
    """A test sends what it says it sends, whatever was baked on this machine before."""
    folder = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(memory, "_folder", lambda: folder)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A real, empty registry, shared by the tests of a file."""
    if BINARY is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server
