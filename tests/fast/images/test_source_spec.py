"""What a source may say: addresses, pins, and what is refused before anything is loaded."""

import sys

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import SourceError
from gpuserve_images.records import silent
from gpuserve_images.sources.addresses import Address, shown
from gpuserve_images.sources.cache import SourceCache
from gpuserve_images.sources.downloading import download
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.spec import ModelSpec

HEX = "a" * 64
COMMIT = "b" * 40


pytestmark = pytest.mark.usefixtures("own_cache")


class TestSpec:
    @pytest.mark.parametrize(
        ("url", "more"),
        [
            ("https://host.example/a/model.onnx", {"sha256": HEX}),
            ("https://host.example:8443/model.onnx?version=3", {"sha256": HEX}),
            ("http://localhost:9000/model.onnx", {"sha256": HEX}),
            ("http://127.0.0.1:9000/model.onnx", {"sha256": HEX}),
            ("s3://bucket/folder/model.onnx", {"sha256": HEX}),
            ("gs://bucket/folder/", {"sha256": HEX, "format": "huggingface"}),
            (f"hf://owner/name@{COMMIT}", {"include": ["*.json", "*.safetensors"]}),
            (f"hf://owner/name@{COMMIT}/onnx/model.onnx", {}),
            (f"oci://localhost:5000/models/filetype@sha256:{HEX}", {"format": "onnx"}),
            (f"oci://ghcr.io/models/filetype:1.2@sha256:{HEX}", {"format": "onnx"}),
            ("pvc://claim/models/model.onnx", {"sha256": HEX}),
        ],
    )
    def test_addresses(self, url, more):
        assert SourceSpec.parse({"url": url, **more}).address.text == url

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ({"url": "https://host.example/model.onnx"}, "is not pinned.*add `sha256:`.*gpuserve images pin"),
            ({"url": "s3://bucket/model.onnx"}, "is not pinned"),
            ({"url": "gs://bucket/model.onnx"}, "is not pinned"),
            ({"url": "pvc://claim/model.onnx"}, "is not pinned"),
            ({"url": "hf://owner/name"}, "is not pinned.*40 hex digits"),
            ({"url": "hf://owner/name@main"}, "is not pinned: 'main' changes"),
            ({"url": f"hf://{'c' * 40}@{COMMIT}"}, "names no repository"),
            ({"url": f"hf://owner/name@{COMMIT}/../../x"}, "names no repository"),
            ({"url": "oci://localhost:5000/models/filetype:1"}, "is not pinned.*@sha256"),
            ({"url": "ftp://host.example/model.onnx", "sha256": HEX}, "no scheme.*https://"),
            ({"url": "model.onnx", "sha256": HEX}, "no scheme"),
            ({"url": "http://host.example/model.onnx", "sha256": HEX}, "without encryption"),
            ({"url": "https://host.example/", "sha256": HEX}, "names no file"),
            (
                {"url": "https://host..example/m.onnx", "sha256": HEX},
                r"names no host that can be asked \(https://host..example",
            ),
            ({"url": f"https://{'a' * 64}.example/m.onnx", "sha256": HEX}, "names no host that can be asked"),
            ({"url": "https://host.example:x/m.onnx", "sha256": HEX}, "names no host and port that can be asked"),
            ({"url": "https://[::1/m.onnx", "sha256": HEX}, "names no host and port that can be asked"),
            ({"url": "https://host.example/a b.onnx", "sha256": HEX}, "spaces"),
            ({"url": "s3://Bucket/model.onnx", "sha256": HEX}, "names no bucket"),
            ({"url": "s3://bucket", "sha256": HEX}, "names no object"),
            ({"url": "s3://bucket/../other/model.onnx", "sha256": HEX}, "names no object"),
            ({"url": "s3://bucket/a//model.onnx", "sha256": HEX}, "names no object.* a part of its path is empty"),
            ({"url": "gs://bucket//model.onnx", "sha256": HEX}, "names no object.* a part of its path is empty"),
            ({"url": "s3://bucket/./model.onnx", "sha256": HEX}, "names no object.* a part of its path is '.'"),
            ({"url": "s3://bucket/a%2F..%2Fb.onnx", "sha256": HEX}, "names no object.* a part of its path is '..'"),
            ({"url": "gs://bucket/a%00.onnx", "sha256": HEX}, "names no object.*x00.onnx', which is no name"),
            ({"url": "s3://bucket/a%FF.onnx", "sha256": HEX}, "%-codes are no UTF-8"),
            ({"url": "https://host.example/..%2F..%2Fmodel.ubj", "sha256": HEX}, "ends in what is no name of a file"),
            ({"url": "https://host.example/%2Fetc%2Fmodel.ubj", "sha256": HEX}, "ends in what is no name of a file"),
            ({"url": "https://host.example/a/%2E%2E", "sha256": HEX}, "ends in what is no name of a file"),
            ({"url": "https://host.example/%00.ubj", "sha256": HEX}, "ends in what is no name of a file"),
            ({"url": f"https://host.example/{'x' * 256}", "sha256": HEX}, "ends in what is no name of a file"),
            ({"url": "pvc://claim/a//model.onnx", "sha256": HEX}, "names no file of claim.* is empty"),
            ({"url": f"hf://owner/name@{COMMIT}/a%2F..%2Fb"}, "names no repository"),
            ({"url": "pvc://Claim_1/model.onnx", "sha256": HEX}, "names no PersistentVolumeClaim"),
            ({"url": "pvc://claim/../../etc/passwd", "sha256": HEX}, "names no file of claim"),
            ({"url": "pvc://claim/models", "sha256": HEX, "include": ["*.onnx"]}, "remove `include:`"),
            ({"url": "https://host.example/model.onnx", "sha256": "abc"}, "64 hex digits"),
            ({"url": "https://host.example/model.onnx", "sha256": HEX, "file": "a.onnx"}, "one of `file:`"),
            ({"url": "https://host.example/model.onnx", "sha256": HEX, "format": "caffe"}, "format"),
            ({"url": "https://host.example/m.zip", "sha256": HEX, "path": "../x"}, "leaves"),
            ({"file": "a.onnx", "allow_pickle": True}, "remove `allow_pickle:`"),
            ({"file": "a", "include": ["*.onnx"]}, "remove `include:`"),
        ],
    )
    def test_impossible_sources_say_what_to_write(self, source, words):
        with pytest.raises(SpecError, match=words):
            SourceSpec.parse(source)

    @pytest.mark.parametrize(
        "url",
        [
            "https://someone:hidden@host.example/model.onnx",
            "https://hidden@host.example/model.onnx",
            "https://host.example/model.onnx?X-Amz-Signature=hidden&X-Amz-Date=1",
            "https://host.example/model.onnx?sv=1&sig=hidden",
            "https://host.example/model.onnx?token=hidden",
        ],
    )
    def test_a_secret_in_an_address_is_refused_and_not_repeated(self, url):
        with pytest.raises(SpecError) as caught:
            SourceSpec.parse({"url": url, "sha256": HEX})
        assert "hidden" not in str(caught.value)
        assert "host.example/model.onnx" in str(caught.value)
        assert "hidden" not in shown(url)

    def test_a_password_with_a_slash_is_not_repeated_either(self):
        with pytest.raises(SpecError, match="without a user name or password") as caught:
            SourceSpec.parse({"url": "https://someone:hidden/password@host.example/model.onnx", "sha256": HEX})
        assert "hidden" not in f"{caught.value}{caught.value.__cause__}"

    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("s3://bucket/my%20folder/my%20model.onnx", "my folder/my model.onnx"),
            ("gs://bucket/100%25/", "100%/"),
            ("s3://bucket/a%252Fb", "a%2Fb"),
            ("pvc://claim/my%20model.onnx", "my model.onnx"),
            (f"hf://owner/name@{COMMIT}/my%20model.onnx", "my model.onnx"),
            ("https://host.example/a%20b/my%20model.onnx", "a%20b/my model.onnx"),
        ],
    )
    def test_codes_are_read_once(self, url, path):
        address = SourceSpec.parse({"url": url, "sha256": HEX, "format": "onnx"}).address
        assert (address.path, address.name) == (path, path.rstrip("/").rsplit("/", 1)[-1])

    @pytest.mark.parametrize("name", ["my model", "Model", "a/b", "", "x" * 64, "../x"])
    def test_a_models_name_is_a_dns_label(self, name):
        with pytest.raises(SpecError, match="name"):
            ModelSpec.parse({"name": name, "source": {"file": "a.onnx"}, "builds": {"fp32": {"engine": "onnxruntime"}}})


@pytest.mark.parametrize(
    ("module", "url"),
    [
        ("obstore", "s3://bucket/m.onnx"),
        ("obstore", "gs://bucket/m.onnx"),
        ("huggingface_hub", f"hf://owner/name@{COMMIT}/m.onnx"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, module, url):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceError, match=r"pip install 'gpuserve\[sources\]'"):
        fetch(SourceSpec(url=url, sha256=HEX), tmp_path)


def test_a_name_that_leaves_the_cache_is_not_written(tmp_path):
    """Addresses have none; should one come by another way, what is in the cache already still goes nowhere else."""
    folder = tmp_path / "cache" / "sha256" / HEX / "files" / "file"
    folder.mkdir(parents=True)
    (folder / "model.ubj").write_bytes(b"model")
    (folder.parent.parent / "complete.json").write_text("{}")
    outside = Address("https", "https://host.example/x", "host.example", "..")
    with pytest.raises(SourceError, match="ends in what is no name of a file"):
        download(SourceSpec(url="https://host.example/x", sha256=HEX), outside, SourceCache(tmp_path / "cache"), silent)
