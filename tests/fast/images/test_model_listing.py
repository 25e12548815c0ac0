"""A model's images in a registry: all of a repository, or the one that is named."""

import os

import pytest

from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEX, descriptor, encode, image_index
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference
from gpuserve_images.pipeline.key import TAG_LENGTH
from gpuserve_images.pipeline.listing import images_of
from gpuserve_images.pipeline.report import Summary

WEIGHTS = Layer({"/models/m/1/model.onnx": File(os.urandom(50_000))})


def summary(key: str) -> Summary:
    return Summary(model="m", build="fp32", key=key, quantisation="none", signature=None, parity=None)


@pytest.fixture
def keys() -> list[str]:
    return ["a" * 64, "b" * 64]


def test_a_tag_or_digest_names_one_image(registry, keys):
    place = f"{registry.host}/listing/one"
    made = [bake(f"{place}:{key[:TAG_LENGTH]}", [WEIGHTS], annotations=summary(key).annotations()) for key in keys]
    assert {image.reference for image in images_of(place)} == {image.reference for image in made}
    for name in (f"{place}:{keys[1][:TAG_LENGTH]}", made[1].reference):
        (image,) = images_of(name)
        assert (image.reference, image.tag) == (made[1].reference, keys[1][:TAG_LENGTH])
    assert images_of(f"{place}:9.9") == []


def test_the_size_of_an_image_for_several_platforms_is_that_of_all_its_layers(registry, keys):
    place = Reference(registry.host, "listing/index", tag=keys[0][:TAG_LENGTH])
    client = RegistryClient(registry.host)
    entries, layers = [], {}
    for platform in ("linux/amd64", "linux/arm64"):
        own = Layer({"/server": File(platform.encode() * 1000)})
        built = bake(f"{registry.host}/listing/index", [own, WEIGHTS], platform=platform)
        found = client.manifest(Reference.parse(built.reference))
        assert found is not None
        layers |= {layer["digest"]: layer["size"] for layer in found.document["layers"]}
        entries.append(descriptor(found.media_type, found.digest, len(found.content)))
    index = image_index(entries, summary(keys[0]).annotations())
    client.put_manifest(place, Manifest(INDEX, encode(index)))
    (image,) = images_of(str(place))
    assert len(layers) == 3
    assert image.bytes == sum(layers.values()) > 50_000
