import pytest

from gpuserve_embedded.tools.build import go_version


@pytest.fixture
def own_tools(tmp_path, monkeypatch):
    """No tool of this machine, and no memory of its compiler."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    go_version.cache_clear()
    yield
    go_version.cache_clear()
