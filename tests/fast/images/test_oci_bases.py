"""What a bake does with its base."""

import pytest

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import File, Layer, TarLayer, bake

LAYER = Layer({"/models/m/1/model.onnx": File(b"weights")})


@pytest.fixture(scope="module")
def base(registry):
    return bake(f"{registry.host}/bases/plain:1", [Layer({"/etc/base": File(b"base")})]).reference


@pytest.mark.parametrize(
    ("path", "instead"),
    [("/lib/x.so", "/usr/lib/x.so"), ("/bin", "/usr/bin"), ("/var/run/a/b", "/run/a/b"), ("/lib64/x", "/usr/lib64/x")],
)
def test_a_path_through_what_is_a_link_in_most_bases_is_refused(registry, base, path, instead):
    """Engines on overlayfs would make a directory of that name: without its loader no program of the base starts."""
    with pytest.raises(ImageError, match="is a link") as caught:
        bake(f"{registry.host}/linked:1", [LAYER, Layer({path: File(b"x")})], base=base)
    assert (caught.value.value, caught.value.fix) == (path, f"Write {instead}")


def test_without_a_base_and_beside_its_links_any_path_will_do(registry, base, tmp_path):
    assert bake(f"{registry.host}/alone:1", [Layer({"/lib/x.so": File(b"x")})]).reference
    (tmp_path / "root.tar").write_bytes(b"")
    beside = [Layer({"/library/x": File(b"x"), "/var/running": File(b"x")}), TarLayer(tmp_path / "root.tar")]
    assert bake(f"{registry.host}/beside:1", beside, base=base).reference
