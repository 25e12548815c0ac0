import pytest
from e2e_registry import BINARY, RegistryServer


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A real, empty registry, shared by the tests of a file."""
    if BINARY is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server
