"""What a bake does with its base."""

import pytest

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, Layer, TarLayer, bake, push_artifact
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEX, MANIFEST, descriptor, digest_of, encode, image_index, image_manifest
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference

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


@pytest.mark.parametrize("platform", ["linux/arm64", ["linux/arm64"], ["linux/amd64", "linux/arm64"]])
def test_a_base_for_one_platform_is_not_taken_for_another(registry, base, platform):
    with pytest.raises(RegistryError, match=r"is not built for linux/arm64, only for linux/amd64") as caught:
        bake(f"{registry.host}/other:1", [LAYER], base=base, platform=platform)
    assert caught.value.repository == "bases/plain"


@pytest.mark.parametrize(
    ("built", "asked"),
    [
        ("linux/amd64", ["linux/amd64"]),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
    ],
)
def test_a_base_for_one_platform_is_taken_for_that_one(registry, built, asked):
    base = bake(f"{registry.host}/bases/one:1", [Layer({"/b": File(b"b")})], platform=built).reference
    assert bake(f"{registry.host}/one:1", [LAYER], base=base, platform=asked).reference


class TestWhatIsNoImage:
    def refused(self, registry, base):
        with pytest.raises(RegistryError, match="is no image to build on") as caught:
            bake(f"{registry.host}/on/it:1", [LAYER], base=base)
        return str(caught.value)

    def put(self, registry, manifest):
        RegistryClient(registry.host).put_manifest(Reference(registry.host, "bases/odd", manifest.digest[7:20]), manifest)
        return f"{registry.host}/bases/odd:{manifest.digest[7:20]}"

    def test_an_artifact(self, registry):
        artifact = push_artifact(
            f"{registry.host}/bases/odd:1", {"m": File(b"m")}, artifact_type="application/x.model"
        ).reference
        assert "an artifact of type application/x.model" in self.refused(registry, artifact)

    def test_an_artifact_whose_configuration_is_of_a_kind_of_its_own(self, registry):
        push_artifact(f"{registry.host}/bases/odd:1", {"m": File(b"m")}, artifact_type="application/x")
        blob = descriptor("application/x.config", digest_of(b"m"), 1)
        manifest = Manifest(MANIFEST, encode(image_manifest(blob, [], {})))
        assert "an artifact of type application/x.config" in self.refused(registry, self.put(registry, manifest))

    def test_an_index_without_images(self, registry):
        empty = Manifest(INDEX, encode(image_index([], {})))
        assert "an index without images" in self.refused(registry, self.put(registry, empty))

    def test_an_index_within_an_index(self, registry):
        inner = bake(f"{registry.host}/bases/odd:inner", [LAYER], platform=["linux/amd64", "linux/arm64"]).reference
        found = RegistryClient(registry.host).manifest(Reference.parse(inner))
        outer = Manifest(INDEX, encode(image_index([descriptor(INDEX, found.digest, len(found.content))], {})))
        assert "an index within an index" in self.refused(registry, self.put(registry, outer))
