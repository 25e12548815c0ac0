import pytest

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import ImageConfig
from gpuserve_images.oci.config import LAYER, derive_config, oci_layers, scratch_config
from gpuserve_images.oci.reference import Reference, is_loopback

BASE = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-05-05T00:00:00Z",
    "config": {"Entrypoint": ["server"], "Cmd": ["--all"], "Env": ["PATH=/bin", "MODE=a=b"], "Labels": {"a": "1"}, "User": "7"},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
    "history": [{"created_by": "x"}, {"created_by": "ENV", "empty_layer": True}],
}


def test_nothing_said_keeps_what_the_base_says():
    derived = derive_config(BASE, ImageConfig(), ["sha256:3"], ["weights"])
    assert derived["config"] == BASE["config"]
    assert derived["rootfs"]["diff_ids"] == ["sha256:1", "sha256:2", "sha256:3"]
    assert derived["created"] == "1970-01-01T00:00:00Z"
    assert BASE["rootfs"]["diff_ids"] == ["sha256:1", "sha256:2"], "the base is not changed"


def test_history_has_one_entry_per_layer_even_where_the_base_lacks_some():
    derived = derive_config(BASE, ImageConfig(), ["sha256:3"], ["weights"])
    filled = [entry for entry in derived["history"] if not entry.get("empty_layer")]
    assert len(filled) == len(derived["rootfs"]["diff_ids"])
    assert filled[-1]["comment"] == "weights"


def test_changes_win_over_the_base():
    changes = ImageConfig(["run"], None, {"MODE": "c", "NEW": "1"}, "1000:1000", "/models", {"b": "2"})
    assert derive_config(BASE, changes, [], [])["config"] == {
        "Entrypoint": ["run"],  # and the base's Cmd, which belonged to its entry point, is gone
        "Env": ["PATH=/bin", "MODE=c", "NEW=1"],
        "Labels": {"a": "1", "b": "2"},
        "User": "1000:1000",
        "WorkingDir": "/models",
    }
    assert derive_config(BASE, ImageConfig(cmd=["--one"]), [], [])["config"]["Cmd"] == ["--one"]


def test_a_name_without_a_value_in_a_base_stays_as_it_is():
    base = BASE | {"config": {"Env": ["PATH=/bin", "ODD", "OTHER"]}}
    derived = derive_config(base, ImageConfig(env={"OTHER": "1"}), [], [])
    assert derived["config"]["Env"] == ["PATH=/bin", "ODD", "OTHER=1"]


def test_an_image_from_nothing_has_only_its_own_layers():
    derived = derive_config(scratch_config("linux/arm64"), ImageConfig(cmd=["/x"]), ["sha256:1"], [""])
    assert (derived["os"], derived["architecture"]) == ("linux", "arm64")
    assert derived["rootfs"] == {"type": "layers", "diff_ids": ["sha256:1"]}
    assert len(derived["history"]) == 1


def test_a_variant_is_no_part_of_the_architecture():
    derived = derive_config(scratch_config("linux/arm64/v8"), ImageConfig(), ["sha256:1"], [""])
    assert (derived["os"], derived["architecture"], derived["variant"]) == ("linux", "arm64", "v8")
    assert "variant" not in scratch_config("linux/amd64")


@pytest.mark.parametrize("platform", ["", "amd64", "linux/", "/amd64", "linux//v8", "linux/arm64/v8/x"])
def test_what_is_no_platform_is_refused(platform):
    with pytest.raises(ImageError, match=rf"platform \({platform!r}\): it is not of the form system/architecture"):
        scratch_config(platform)


def test_docker_layers_become_oci_layers():
    docker = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    layers = oci_layers(
        {"layers": [{"mediaType": docker, "digest": "d", "size": 1}, {"mediaType": LAYER, "digest": "e", "size": 2}]}
    )
    assert [layer["mediaType"] for layer in layers] == [f"{LAYER}+gzip", LAYER]


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("localhost:5000/models/filetype:1", "localhost:5000", "models/filetype", "1", None),
        ("localhost/a", "localhost", "a", None, None),
        ("debian:bookworm-slim", "docker.io", "library/debian", "bookworm-slim", None),
        ("nvcr.io/nvidia/tritonserver:24.10-py3", "nvcr.io", "nvidia/tritonserver", "24.10-py3", None),
        ("user/image", "docker.io", "user/image", None, None),
        ("[::1]:5000/a@sha256:" + "0" * 64, "[::1]:5000", "a", None, "sha256:" + "0" * 64),
        ("host:1/a:t@sha256:" + "1" * 64, "host:1", "a", "t", "sha256:" + "1" * 64),
    ],
)
def test_references(text, registry, repository, tag, digest):
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    "text", ["", "Upper/Case", "a b", "host:5000/", "a:b:c", "a@sha256:12", "http://host/a", "a/../b", "a:tag with"]
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(ImageError, match="not of the form") as caught:
        Reference.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("registry", "local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:80", True),
        ("127.3.2.1", True),
        ("[::1]:5000", True),
        ("10.0.0.1:5000", False),
        ("localhost.example.com", False),
        ("nvcr.io", False),
    ],
)
def test_only_this_machine_is_spoken_to_in_plain_http(registry, local):
    assert is_loopback(registry) is local
